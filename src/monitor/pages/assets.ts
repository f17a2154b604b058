import { createHash } from 'node:crypto'

/** What the pages load besides themselves: one style sheet and one script, files of their own so that no page needs inline ones. */

const style = `
:root{color-scheme:light dark;--ground:#f6f6f4;--paper:#fff;--ink:#1b1d20;--soft:#565b63;--rule:#e1e1dc;--link:#0a55a3;--good:#1a6b3c;--wait:#7d4e00;--bad:#a8201a;--now:#0a55a3;
--good-fill:#cfe8d8;--wait-fill:#f6e3bd;--bad-fill:#f7d3cf;--now-fill:#d3e4f8;--plain-fill:#e3e4e8;--bar:#5b8fc7;--bar-full:#b9770e}
@media (prefers-color-scheme:dark){:root{--ground:#121316;--paper:#191b1f;--ink:#e4e6e9;--soft:#a0a6af;--rule:#2c2f35;--link:#85b8f2;--good:#79cb98;--wait:#e3b25c;--bad:#f49a92;--now:#85b8f2;
--good-fill:#1d3b2a;--wait-fill:#43330f;--bad-fill:#4a2320;--now-fill:#1d3451;--plain-fill:#2d3138;--bar:#4f7fb4;--bar-full:#c08a2e}}
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%}
body{margin:0;background:var(--ground);color:var(--ink);font:14px/1.45 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif;font-variant-numeric:tabular-nums}
a{color:var(--link);text-decoration:none}a:hover{text-decoration:underline}
:focus-visible{outline:2px solid var(--link);outline-offset:2px;border-radius:3px}
.skip{position:absolute;left:-99rem}.skip:focus{left:1rem;top:.5rem;background:var(--paper);padding:.4rem .8rem;z-index:1}
header.top{display:flex;flex-wrap:wrap;align-items:center;gap:.35rem 1.1rem;padding:.55rem 1.25rem;background:var(--paper);border-bottom:1px solid var(--rule)}
.brand{font-weight:650;letter-spacing:.01em}
nav.top{display:flex;gap:1rem}nav.top a{padding:.2rem 0}nav.top a[aria-current]{color:var(--ink);box-shadow:0 2px 0 var(--link)}
.find{display:flex;gap:.4rem;margin-left:auto}
.live{font-size:12px;color:var(--soft);min-width:9.5em;text-align:right}
.live::before{content:"";display:inline-block;width:.5em;height:.5em;border-radius:50%;margin-right:.45em;background:var(--soft)}
.live.on::before{background:var(--good);animation:breathe 2.4s ease-in-out infinite}.live.off::before{background:var(--bad)}
@keyframes breathe{50%{opacity:.35}}
@media (prefers-reduced-motion:reduce){*{animation:none!important;transition:none!important;scroll-behavior:auto!important}}
main{padding:1.1rem 1.25rem 3rem;max-width:110rem;margin:0 auto}
h1{font-size:1.3rem;line-height:1.25;font-weight:650;margin:0;overflow-wrap:anywhere}
h2{font-size:.95rem;font-weight:650;margin:0 0 .5rem}h2 small,h1 small{font-weight:400;color:var(--soft);font-size:.85em;margin-left:.4em}
.title{display:flex;flex-wrap:wrap;align-items:baseline;gap:.2rem .9rem;margin-bottom:.9rem}
.sum{display:flex;flex-wrap:wrap;gap:.4rem 2.2rem;margin:0 0 1.1rem}
.sum div{min-width:4.5rem}.sum dt{color:var(--soft);font-size:12px}.sum dd{margin:0;font-size:1.35rem;font-weight:600;line-height:1.25}.sum dd small{font-size:.8rem;font-weight:400;color:var(--soft)}
.cols{display:grid;grid-template-columns:minmax(0,1fr);gap:1rem}
@media (min-width:72rem){.cols{grid-template-columns:25rem minmax(0,1fr)}}
.cols>div{display:grid;gap:1rem;align-content:start;min-width:0}
section{background:var(--paper);border:1px solid var(--rule);border-radius:8px;padding:.8rem 1rem 1rem;min-width:0}
.card+.card{margin-top:1rem}
table{border-collapse:collapse;width:100%;table-layout:fixed}
th,td{text-align:left;vertical-align:top;padding:.38rem .75rem .38rem 0;border-top:1px solid var(--rule);font-weight:400;overflow-wrap:break-word}
thead th{border-top:0;color:var(--soft);font-size:12px;padding-top:0;white-space:nowrap;overflow-wrap:normal}
th:last-child,td:last-child{padding-right:0}.num{text-align:right;white-space:nowrap}
caption{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%)}
small,.soft{color:var(--soft)}small{font-size:12px}.id{font:12px/1.4 ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;color:var(--soft)}
.more,.none{color:var(--soft);margin:.5rem 0 0}.none{margin:.1rem 0}
.b{display:block}
.state{white-space:nowrap}.good{color:var(--good)}.bad{color:var(--bad)}.wait{color:var(--wait)}.now{color:var(--now)}
.badge{display:inline-block;padding:.05rem .55rem;border-radius:99px;border:1px solid currentColor;font-size:12.5px;white-space:nowrap}
.note{border-left:3px solid currentColor;padding:.3rem .75rem;margin:0 0 .6rem;background:var(--paper);overflow-wrap:anywhere}.note span{color:var(--ink)}
.meter{display:block;width:100%;height:6px;margin-top:.3rem}.meter .track{fill:var(--rule)}.meter .fill{fill:var(--bar)}.meter .full{fill:var(--bar-full)}
.last{font:12px/1.45 ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;color:var(--soft);display:-webkit-box;-webkit-line-clamp:2;-webkit-box-orient:vertical;overflow:hidden}
.why{display:-webkit-box;-webkit-line-clamp:3;-webkit-box-orient:vertical;overflow:hidden}
.w0{width:2rem}.w1{width:4.2rem}.w2{width:5.8rem}.w3{width:7.5rem}.w4{width:9rem}.q{width:25%}.h{width:46%}
.num+th:not(.num),.num+td:not(.num){padding-left:.75rem}
pre{margin:0;font:12px/1.5 ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;white-space:pre-wrap;overflow-wrap:anywhere;max-height:26rem;overflow:auto;background:var(--ground);border:1px solid var(--rule);border-radius:6px;padding:.6rem .75rem}
pre.diff span{display:block}.diff .add{background:var(--good-fill)}.diff .del{background:var(--bad-fill)}.diff .at{color:var(--soft)}pre.diff{margin-bottom:.5rem}.lines{margin:.6rem 0}
details>summary{cursor:pointer;color:var(--link);width:max-content;max-width:100%}details[open]>summary{margin-bottom:.5rem}
.facts{display:grid;grid-template-columns:repeat(auto-fill,minmax(11rem,1fr));gap:.7rem 1.4rem;margin:0}.facts dt{color:var(--soft);font-size:12px}.facts dd{margin:0;overflow-wrap:anywhere}
.acts{display:flex;flex-wrap:wrap;gap:.5rem;margin-left:auto;align-items:flex-start}.acts form{display:flex;flex-wrap:wrap;gap:.4rem}
button,input{font:inherit;color:inherit}input{background:var(--paper);border:1px solid var(--soft);border-radius:6px;padding:.25rem .55rem;min-width:0}
button{cursor:pointer;background:var(--paper);border:1px solid var(--soft);border-radius:6px;padding:.25rem .8rem}button:hover{border-color:var(--ink)}button.danger{color:var(--bad);border-color:currentColor}
.course{display:block;width:100%;font-size:12px;margin-bottom:.4rem;overflow:hidden}.course text{fill:var(--ink)}.course .lane{fill:var(--soft)}.course .tick{fill:var(--soft);font-size:11px}.course line{stroke:var(--rule)}
.course .wait{fill:var(--wait-fill)}.course .good{fill:var(--good-fill)}.course .bad{fill:var(--bad-fill)}.course .now{fill:var(--now-fill)}.course .plain{fill:var(--plain-fill)}
.course .saved{fill:var(--good)}.course .taken{stroke:var(--now);stroke-dasharray:3 3}.course .diamond{fill:var(--now)}
button.act{display:block;margin-top:.25rem;font-size:12px;padding:.05rem .5rem;color:var(--link);border-color:var(--rule)}button.act:hover{border-color:currentColor}#queue button.act{margin:0;font-size:inherit;padding:.25rem .8rem}.small{font-size:12px}
.legend{display:flex;flex-wrap:wrap;gap:.2rem 1.1rem;margin:0 0 .5rem;padding:0;list-style:none;font-size:12px;color:var(--soft)}
.paths{margin:.5rem 0 0;padding:0;list-style:none;columns:22rem;column-gap:2rem}.paths li{overflow-wrap:anywhere;break-inside:avoid}
.scroll{overflow-x:auto}
.login{display:grid;gap:.8rem;width:min(21rem,100%);margin:12vh auto 0}.login label{display:grid;gap:.25rem}.login input{padding:.45rem .6rem}
@media (max-width:44rem){main{padding:.8rem .8rem 2rem}header.top{padding:.5rem .8rem}.find{margin-left:0;order:9;width:100%}.find input{flex:1}.live{margin-left:auto;min-width:0}
section{padding:.7rem .75rem .8rem}.w2{width:3.6rem}.w3{width:5.2rem}.facts{grid-template-columns:repeat(auto-fill,minmax(8.5rem,1fr))}thead th{white-space:normal}.sum{gap:.4rem 1.5rem}.acts{margin-left:0;width:100%}
.running thead{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%)}
.running tr{display:grid;grid-template-columns:minmax(0,1fr) max-content;gap:.1rem .8rem;padding:.5rem 0;border-top:1px solid var(--rule)}.running tbody tr:first-child{border-top:0}
.running th,.running td{border:0;padding:0;width:auto!important}.running td.where,.running td.out{grid-column:1/-1}.running td.for{grid-row:1;grid-column:2;text-align:right}
.opt{display:none}}
`

// Replaces what has changed, says for how long things have lasted, and keeps the focus where it was.
const script = `
const page = document.body, status = document.getElementById('live'), seen = new WeakMap()
const two = (n) => String(n).padStart(2, '0')
const lasted = (ms) => { const s = Math.max(0, Math.floor(ms / 1000)), m = Math.floor(s / 60), h = Math.floor(s / 3600)
  return s < 60 ? s + ' s' : s < 3600 ? m + ' m ' + two(s % 60) + ' s' : s < 86400 ? h + ' h ' + two(m % 60) + ' m' : Math.floor(h / 24) + ' d ' + (h % 24) + ' h' }
const tick = () => { for (const each of document.querySelectorAll('[data-ms]')) { if (!seen.has(each)) seen.set(each, performance.now())
  each.textContent = lasted(Number(each.dataset.ms) + performance.now() - seen.get(each)) } }
const say = (text, how) => { if (status && status.textContent !== text) status.textContent = text; if (status) status.className = 'live ' + how }
const change = (parts) => { for (const [id, html] of Object.entries(parts)) { const old = document.getElementById(id); if (!old) continue
  const focus = old.contains(document.activeElement) && document.activeElement.id, open = [...old.querySelectorAll('details[open][id]')].map((each) => each.id)
  old.outerHTML = html
  for (const each of open) document.getElementById(each)?.setAttribute('open', '')
  if (focus) document.getElementById(focus)?.focus() } tick() }
if (page.dataset.live) { const source = new EventSource(page.dataset.live)
  source.addEventListener('open', () => say('Live', 'on'))
  source.addEventListener('change', (event) => { say('Live', 'on'); change(JSON.parse(event.data)) })
  source.addEventListener('trouble', (event) => say(JSON.parse(event.data), 'off'))
  source.addEventListener('error', () => say(source.readyState === 2 ? 'Not live: load the page again' : 'Connecting…', 'off')) }
setInterval(tick, 1000)
`

export interface Asset {
  readonly type: string
  readonly text: string
}

export const assets: Readonly<Record<'style.css' | 'live.js', Asset>> = {
  'style.css': { type: 'text/css; charset=utf-8', text: style.trim() },
  'live.js': { type: 'text/javascript; charset=utf-8', text: script.trim() },
}

/** Of both, so that browsers keep them until a release changes them. */
export const assetsVersion = createHash('sha256').update(style).update(script).digest('hex').slice(0, 12)
