"""The kernels. Installed as `bwn.kernels`: arrays and addresses in, arrays out; knows no graph and no file."""

if __name__ != "bwn.kernels":
    raise ImportError("kernels/ is installed as bwn.kernels: import that name")
