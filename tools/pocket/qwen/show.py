import random,sys
from documents import *
r=random.Random(int(sys.argv[1]) if len(sys.argv)>1 else 1)
for _ in range(40):
    d=document(r)
    t="".join(("[["+p[0]+"]]" if p[1] else p[0]) for p in d)
    for n,e in EXACT.items(): t=t.replace(e,"<"+n+">").replace(e.split("\n")[0],"<"+n+">")
    print("-----\n"+t)
