"""The style sheet of the static report: a narrow palette, system fonts, light and dark."""

STYLE = """
:root{
  --bg:#fbfaf7;--card:#fff;--ink:#1d2126;--soft:#626b76;--line:#e3e0d8;--accent:#17557a;--good:#1b7f4b;--bad:#b3372c;--c0:#1f6f9f;
  --c1:#d2762b;--c2:#3c8f5a;--c3:#9a5aa6;--c4:#b8453f;--c5:#7a6a4f;--c6:#4b6fc4;--c7:#8a8f98}
@media(prefers-color-scheme:dark){:root{
  --bg:#15181c;--card:#1d2126;--ink:#e8e6e1;--soft:#9aa4af;--line:#31373e;--accent:#7cc0e8;--good:#5cc78e;--bad:#ee8178;
  --c0:#5aaede;--c1:#e89a58;--c2:#6cc08c;--c3:#c48bd0;--c4:#e37d77;--c5:#b9a888;--c6:#8ba6ea;--c7:#a8adb5}}
*{box-sizing:border-box}
html{scroll-behavior:smooth}
body{
  margin:0;background:var(--bg);color:var(--ink);
  font:15.5px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",sans-serif;font-variant-numeric:tabular-nums}
main,header,nav>div{max-width:1120px;margin:0 auto;padding:0 28px}
header{padding-top:44px;padding-bottom:6px}
h1{font:600 31px/1.2 Georgia,"Iowan Old Style","Times New Roman",serif;margin:0 0 6px}
h2{font:600 22px/1.25 Georgia,"Iowan Old Style","Times New Roman",serif;margin:54px 0 4px;scroll-margin-top:52px}
h3{font-size:14px;font-weight:650;margin:24px 0 6px}
p{margin:6px 0 12px;max-width:78ch}
.soft,small{color:var(--soft)}
small{font-size:12.5px}
nav{position:sticky;top:0;z-index:2;background:var(--bg);border-bottom:1px solid var(--line);margin-top:18px}
nav>div{display:flex;flex-wrap:wrap;gap:2px 18px;padding-top:9px;padding-bottom:9px;font-size:13.5px;white-space:nowrap}
a{color:var(--accent);text-decoration:none}
a:hover{text-decoration:underline}
code{font:12.5px ui-monospace,SFMono-Regular,Menlo,Consolas,monospace}
.cards{display:grid;grid-template-columns:repeat(auto-fill,minmax(238px,1fr));gap:12px;margin:20px 0 4px}
.card{background:var(--card);border:1px solid var(--line);border-radius:9px;padding:13px 15px 11px}
.card b{display:block;font:600 27px/1.2 Georgia,"Times New Roman",serif}
.card span{font-size:13px;color:var(--soft);display:block}
.card small{display:block}
.scroll{overflow-x:auto}
table{border-collapse:collapse;margin:10px 0 6px;font-size:14px}
th{font-weight:600;font-size:12.5px;color:var(--soft);text-align:left;vertical-align:bottom}
th,td{padding:5px 14px 5px 0;border-bottom:1px solid var(--line)}
td.n,th.n{text-align:right}
td{white-space:nowrap}
table.pictures td,table.wrapped td:first-child{white-space:normal}
td svg{display:block}
table.heat th+th{width:88px;text-align:right;padding-right:10px;line-height:1.25}
table.heat td.v{text-align:right;padding:5px 10px;border-left:2px solid var(--bg)}
table.pictures td,table.pictures th{padding:5px 9px 5px 0;vertical-align:top;border:0}
table.pictures th{position:static;padding-bottom:2px}
td.prompt{width:190px;max-width:190px;font-size:13px;line-height:1.4;padding-right:14px!important}
figure{margin:0;font-size:12px;line-height:1.35;color:var(--soft);width:max-content}
figure img{
  display:block;border-radius:5px;border:1px solid var(--line);width:112px;height:112px;object-fit:contain;background:var(--card)}
figcaption{max-width:112px;padding-top:2px}
.small figure img{width:84px;height:84px}
.small figcaption{max-width:84px}
.row{display:flex;flex-wrap:wrap;gap:10px 12px;margin:8px 0 14px}
td .row{margin:0}
.wide figure{width:auto}
.wide figure img{width:auto;height:auto;max-width:100%}
.natural figure img{width:auto;height:auto}
.wide figcaption,.natural figcaption{max-width:none}
.pair figure+figure{margin-top:4px}
.ok{color:var(--good);font-weight:700}
.no{color:var(--bad);font-weight:700}
.missing{color:var(--soft);border:1px dashed var(--line);border-radius:9px;padding:11px 15px;margin:12px 0;max-width:78ch}
.note{border-left:3px solid var(--c1);padding:1px 0 1px 14px;margin:12px 0}
.charts{display:flex;flex-wrap:wrap;gap:10px 14px;margin:6px 0}
.charts>div{background:var(--card);border:1px solid var(--line);border-radius:9px;padding:4px}
svg text{font:11px system-ui,sans-serif;fill:var(--soft)}
svg .t{font-size:12px;font-weight:600;fill:var(--ink)}
svg .e{text-anchor:end}
svg .m{text-anchor:middle}
svg .g{stroke:var(--line)}
svg .z{stroke:var(--soft)}
svg{display:block}
.legend{display:flex;flex-wrap:wrap;gap:3px 16px;font-size:12.5px;color:var(--soft);margin:6px 0}
.legend i{display:inline-block;width:10px;height:10px;border-radius:3px;margin-right:5px}
.shares{display:flex;height:26px;border-radius:6px;overflow:hidden;margin:8px 0 4px;max-width:960px}
.shares i{font:600 11.5px/26px system-ui,sans-serif;color:#fff;text-align:center;overflow:hidden}
details{margin:10px 0}
summary{cursor:pointer;color:var(--accent);font-size:14px}
pre{
  font:12px/1.5 ui-monospace,Menlo,Consolas,monospace;background:var(--card);border:1px solid var(--line);border-radius:9px;
  padding:13px 15px;overflow:auto;max-height:480px}
footer{max-width:1120px;margin:60px auto 40px;padding:14px 28px 0;color:var(--soft);font-size:13px}
@media(max-width:600px){
  main,header,nav>div{padding-left:14px;padding-right:14px}
  nav>div{flex-wrap:nowrap;overflow-x:auto}
  .cards{grid-template-columns:repeat(auto-fill,minmax(150px,1fr))}
  td:first-child{white-space:normal}
  td.prompt{width:112px;max-width:112px;padding-right:8px!important}
  figure img{width:88px;height:88px}
  figcaption{max-width:88px}}
@media print{nav{display:none}details{display:none}}
"""
