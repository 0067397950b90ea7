"""Two tiny workbooks that openpyxl cannot write, made once by xlwt 1.3 (.xls) and pyxlsbwriter 0.1 (.xlsb).

Both hold people without names: a header and two or three rows.
"""

import base64
import zlib

XLS = zlib.decompress(
    base64.b85decode(
        b"c-rk)O-"
        b"NKx6#njeGdd1B&X`6jhzMDkF3g}dIwh2C5^GaLFg~4W8q`sq17VA@Y?eXLs%RtFqK*A5`k{h?7A*p!7C|7))Y4T@&_d^R&YAagGy?}pFy8mL"
        b"-@Esmd+t5&p8NCOdp{S-Oh2s4Vhy^WBWIPNq(G)9l{tkVNN-"
        b"u3b?!b&mWwTgG9Lx9#Ea(@?@Bp_9PcbNJn+0G2EI@_i!t<$CS#48h;H%0Q0zk|vBDja1W+qpRS6FYZxg;RHD3rH63KPpPO6(xXD}D;Z8>Pq;"
        b"?r7_=mOw&pNP$8k+h=*Z+RA9zM=AUy*O+pjNvV&Xz-"
        b"L{1{BbqSTbgExe|Bb2POz@BO`6mXa?03>>2#98iDW5s(#hz$~RZ8K=Plf<)wd+`zVNO<u^4CFbS()7D<|F9q_QG9Ak!=N(?5(jAUwj5yyBsN"
        b"D81(6-h+Bz&X=M4Ab6j#AA_(m|>1n{z5DfKc9*W#c5^qwKMHw>hSY1AlpW8)wWR~%c-0=ib~0cWKjjl@5OuHJ{%wD3r9pUDMv;AK-"
        b"tOu!@?D|Ame~&Jj>i77JG%SN~`sfuM@7O8Bh1-z8X7obV}-66Kyl~(;@g6-c^v_P5Jb~iKh+eui-tEpY6$Bte*W8o<<WLa8a`7YYMHZRo%YD"
        b"couf<%HDkDg=>G?h<sYm_T92i%}Ols(j$a~^Ccb~wOrEdvC5ZpD(QAxYMr)}w8f+I5<A4#kVGJaI>o#Y=Qh|{TgO_HnqJ#_B~BsK_cM1Z$68"
        b";<T9=yKn^*HuDgPXoG}dS|HjmzD&?$<#JjH%{#JjXAJmyYlb6$ZTE?l^9;lhOr7cMp#N?tx;zv@9=3rp+|1^%zIL@DR~Ci!o15~Fmb=%exol"
        b"5{sQQPlj|4zF_BQX8~!{ueS%QST;(Fd%*m6+M6HV@wr3&xQ?ye{TsD+kdVYKmT$6zW~0j>%I"
    )
)
XLSB = zlib.decompress(
    base64.b85decode(
        b"c-"
        b"rMyeQXp(6o0e3Emth`pdcRtISwoa+S}{3w16$;qcmv{yhx2iG0paF+n&AKJ9oEm7h=*D1tl@!N3BLcG=#)xqN0Bq<Nqcm;y)(V7(a>#gn%Y~"
        b"1%q#9cW?LRt{;&8W1P$E&b*oTdo%C7dGq$7yG3acSY<VgOpK%^1OQr>A|;!Y52f`1qhD1`LuRk~P)|Y|Ch#&@^0_3yHjDL^U1<9i;s>rgL*O"
        b"~GYFzZvC}-"
        b"T$A0sOZnXb1HyM?O(@inqm<X{ODm*WJE61caVfG{71MtwpV)WC#TNmu8CTE=ozgqDSQj>V3UmW9Lto$JyBdjU}8(&$3O0@^VVUUbC{Sz?g_%"
        b"N#Ma#Is_`Jg3rW0qYUFM_5m=djjh@0@>_kWNJuSB+6RpjFq#VVE2|Ixy)an%rnt#uuPa9wyXe_GL-oRFVJUuw{g(Wwe2MWW6}=SW~J-"
        b"~)7X~w-?BVQ@GR|Z0^f>)AI8OSFDn<@oVPXUQvTh*%2)X}H5T~MSWEr9z#14K5G^<wU*EXCcqPuEbxqOH=+@Pw_ke_GzojjkN(K(9x{*k0t-"
        b"<<GI2cg1SUR52`dWhzcXiZl3I+^Q(c(%nt*NcSoN5Hyw$5#NNKGmx@)-"
        b"Szj1fQ(&1enwn`UN<EE}<YHKiD#bVk*1q&Kan6cf98pPW%*14^GNN5bJIS@&WDInY37yfvtI#_NNDu3Sbf0#7AkdfG_$nxR-aC8v9P6R}dTa"
        b"yGdmp(%Q<Q;Vxv#8UJ=)ocy+xJ0Inpp5e6f?aJb)b6K8PWIE|PwT28?eci*X>5W(39lIyIJ2F)w&(pUIts1TNO^2$S~FG6?56uR9uJ`k@7PQ"
        b"X;ttIdvzAe3QVeRIcC}X-"
        b"OqzjRS)^Mlp_&WW>$S|JWHQM_jA>CmsKrAmqfX7n)MSV$DrD&?lv2=oyELUIsp1sH)_(~B)Jdn2P`Hmedk>)kH`ss^CKEx2CYRtaK8V`a6LB"
        b">VRdjQ&lEP`S?E*dN^gw8KH8F*>qML4}V)M)>VFm(<PRI<!;8e!+h%wbp3^SKhjoZ>1<Cqe&U(wb0K2yh2aeL5SMk^AqgTqCDp(}rWxgKLHt"
        b"#={Cim3nbI9dYS3a0Jp*kB5ES1PC$&TykDe;}p}s?SG8&)<iaC9PF%P;~%~5Evp6K7!KAH49009X7LP6T9^z&<G9qY=YNGWx#V=(rZ+#f}t^"
        b"gBMr+tVGA4p1D-?-16y67;@gBAJPHbAAc4I>*w03LaJ&Ybdw6*1NFG(jT95L&L4z3Rh*^*A!}x51jSz-S(2lLmP>1q5u-"
        b"A;OMtoYdP1xRu?K+&*2-~rSk(1)pGkP;T#U#ijZjc%{X6JEkYB0~vaINvvR-"
        b"$_PZh(&ym{`;R?DynA*=Gs7K;R?^J6Q$I#dPSzY_}e0CY3=&=%|teZY{xj8uko0LEw9V=H8bDKcD{mAi%ng)lQFEvl};_KsB1EU>!HAU`s)j"
        b"Du|@A8TY#ub@EKQi&JFz#>)a*8O^_MzH{Tko}MU6wx57E2!S;c+7sUO6S5Yb=JTL%c=LA+2uABX%c<OO^Qr(pOA-"
        b"}WTYHw>w>kTF0F9BtAAQI1cL1;Ne*A4=)Y?_&m}VxMeMy2JC5f(Z!@6;No*>q~=2&XFCCp)-"
        b"r=U6#r~)0IbRvOISoVHxs)<g{KI}u={v^RS)&}a@nbxfDn_J>`*8^^+)U_{|1(b0KCamp;8VWMinYAuT@T<ix`@O>b=-"
        b"j_a@QWl#Y|JZ?j#0{44}~zwxgrV>;^De1!4*py)9ix$DJnc=;T6sjeOUKG8jX=+hSAUgu1fHiNLK}ai*Qqn(iYWZ7jy9>I`}>oQ)p`s);Jn+"
        b"5cwl)Rup>&5z+L_dH`vC=x`>BA^(Wz<!E)d;)CCP>mB%g%r9c>M3rX!!v|M=u+}~!ANb+CKjM5ucHz7fTiSFeANk=!KcbBB>1tc~=!#}^KU$"
        b"Ytr^~tsy@C7xcqzL1RsKFKov&f~RcbMj*<6gBE#+6@$+spE-!QA<3o<Hq6-"
        b"61^v>C#VU|Yv=`lkujMRqXfQQjoJa{DiY>eVoR()+6$+i|F_V%b73PEgqORJ{Z$kf5ONt2ifzPs(jL1BZ~{9E@%lz*cnyyRxEqPV&tNoS_#H"
        b"5f+J)|6AphAr_7%%jkI&{=?oyxksGQXFd<ef6KanIcd5tTON!5e08xdNF_gJc>q4Gb^#9i3X*J|kxw37#xE+0Qc0efPZC__HI-b-"
        b"z_aoZ&}AL2nkpXhIJ|4SIM)}HcJ%1(GV0{$l@-v9(%)l$5&jF3qPbN"
    )
)
