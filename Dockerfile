# bwn with compiled kernels and the HTTP service, without numba and torch:
#
#   docker build -t bwn .
#   docker run --rm -v "$PWD:/data:ro" bwn infer models/mnist-mlp.bwn examples/digits
#   docker run --rm -p 8000:8000 -v "$PWD:/data:ro" bwn serve models/mnist-mlp.bwn --host 0.0.0.0
#
# tests/installed/run_dockerfile.py runs these steps where there is no Docker.
FROM python:3.13-slim AS build
RUN apt-get update && apt-get install -y --no-install-recommends binutils
WORKDIR /src
COPY . .
# The libraries of this machine's architecture, or those named: --build-arg TARGETS=x86-64-avx2
ARG TARGETS=
RUN pip install --no-cache-dir build . && python -m build --wheel --outdir dist
RUN python -c "import platform; from bwn.kernels.target.targets import TARGETS; \
print(*(target.name for target in TARGETS if target.machine == platform.machine()))" > targets
RUN python -m bwn.kernels.aot.build libraries ${TARGETS:-$(cat targets)}
RUN python -m bwn.kernels.aot.wheels dist/bwn-*-any.whl libraries wheels

FROM python:3.13-slim
WORKDIR /data
COPY --from=build /src/wheels wheels
RUN pip install --no-cache-dir "$(ls wheels/bwn-*.whl)[serve]" && rm -r wheels
RUN useradd --system --no-create-home bwn
USER bwn
EXPOSE 8000
ENTRYPOINT ["bwn"]
CMD ["--help"]
