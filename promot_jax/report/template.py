"""The page's frame and style sheet; everything substituted into it is HTML already escaped."""

from string import Template

STYLE = """
:root { color-scheme: light dark; --ink: #1d1d1f; --soft: #6a6a70; --line: #dcdce0;
  --paper: #ffffff; --card: #f6f6f8; --good: #00704f; --bad: #b84600; }
@media (prefers-color-scheme: dark) { :root { --ink: #ececf0; --soft: #a0a0a8; --line: #3a3a40;
  --paper: #17171a; --card: #222226; --good: #4cc79d; --bad: #ff9a5c; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.2rem 1rem 4rem; max-width: 60rem; color: var(--ink);
  background: var(--paper); font: 1rem/1.55 system-ui, sans-serif; }
h1 { font-size: 1.6rem; line-height: 1.2; margin: .5rem 0 1rem; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin: 2.6rem 0 .6rem; }
h3 { font-size: 1rem; margin: 1.4rem 0 .5rem; }
p { max-width: 46rem; }
.soft, figcaption { color: var(--soft); font-size: .875rem; }
.note { border-left: 3px solid var(--bad); padding-left: .8rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
.scores { width: 100%; }
th, td { padding: .45rem .7rem; border-bottom: 1px solid var(--line); text-align: right;
  vertical-align: top; }
th { font-size: .875rem; vertical-align: bottom; overflow-wrap: break-word; }
tbody th, th:first-child { text-align: left; position: sticky; left: 0; background: var(--paper); }
tbody th { white-space: nowrap; font-size: 1rem; vertical-align: top; }
td small { display: block; color: var(--soft); white-space: nowrap; }
@media (max-width: 44rem) {
  .scores, .scores tbody { display: block; } .scores thead { display: none; }
  .scores tr { display: grid; grid-template-columns: 1fr 1fr; gap: .1rem 1rem; padding: .7rem 0;
    border-bottom: 1px solid var(--line); }
  .scores th { grid-column: 1 / -1; position: static; white-space: normal; }
  .scores th, .scores td { padding: .1rem 0; border: 0; text-align: left;
    overflow-wrap: anywhere; }
  .scores td::before { content: attr(data-name); display: block; color: var(--soft);
    font-size: .8rem; }
  .scores small { display: inline-block; }
}
.dot { display: inline-block; width: .7em; height: .7em; border-radius: 50%; margin-right: .5em; }
figure { margin: 1rem 0; }
figure .scroll { background: #fff; border-radius: .5rem; border: 1px solid var(--line); }
figure img { display: block; width: 100%; min-width: 34rem; max-width: 900px; height: auto;
  margin: 0 auto; }
.sample { background: var(--card); border-radius: .5rem; padding: .8rem 1rem; margin: .8rem 0; }
.sample th { background: var(--card); }
.sample table { width: 100%; }
.sample td, .sample th { text-align: left; padding: .3rem .6rem .3rem 0; font-size: .875rem;
  overflow-wrap: anywhere; }
.right { color: var(--good); } .wrong { color: var(--bad); }
pre { white-space: pre-wrap; overflow-wrap: anywhere; margin: 0 0 .6rem;
  font: .85rem/1.45 ui-monospace, monospace; }
details pre { background: var(--card); border-radius: .5rem; padding: .8rem 1rem; }
details { margin: .6rem 0; } summary { cursor: pointer; }
"""

PAGE = Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<style>$style</style>
</head>
<body>
<h1>$title</h1>
$body
</body>
</html>
""")
