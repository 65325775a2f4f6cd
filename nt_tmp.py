import sys; sys.path[:0]=["tests/onnx","tests/support"]
import test_every_node_case as t, collections,re,time,warnings; warnings.simplefilter("ignore")
t0=time.time(); cs=t.cases(); print(len(cs), time.time()-t0)
c=collections.Counter(); ex={}
for case in cs:
    for label,data,x in t.forms(case):
        try: r=t.outcome(data,x,case.data_sets[0][1][0])
        except Exception as e: r="CRASH "+type(e).__name__+str(e)[:100]
        if r.startswith(("wrong","CRASH")): print(label,r,flush=True)
        k=r if r in("right","wrong") else re.sub(r"'[^']*'|\d+|\(.*?\)","_",r)[:140]; c[k]+=1; ex.setdefault(k,label+": "+r[:200])
print(time.time()-t0)
for k,v in c.most_common(): print(v,k,"|||",ex[k])
