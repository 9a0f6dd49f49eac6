import { toJson } from "@throughline/core/Envelope"
const mk = (i: number): any => ({
  eventId: "01a1fdbd-d295-723e-933e-4dccc359df56",
  seq: i,
  runId: "r",
  kind: "TextDelta",
  delivery: "progress",
  emittedAt: "2026-11-21T10:53:58.293Z",
  tags: [],
  correlation: {},
  schemaVersion: 1,
  event: `{"_tag":"TextDelta","messageId":"m","text":"some words of a model's answer, a hundred characters or so, as they come from a provider ${i}"}`,
})
const es = Array.from({ length: 20000 }, (_, i) => mk(i))
const quotedKinds = new Map<string, string>()
const quote = (s: string) => {
  let q = quotedKinds.get(s)
  if (q === undefined) {
    q = JSON.stringify(s)
    quotedKinds.set(s, q)
  }
  return q
}
const isEmpty = (o: any) => {
  for (const _ in o) return false
  return true
}
const fast = (e: any): string => {
  let out = ""
  for (const k in e) {
    const v = e[k]
    if (v === undefined) continue
    switch (k) {
      case "event":
        break
      case "seq":
      case "schemaVersion":
        out += `,"${k}":${v}`
        break
      case "eventId":
      case "runId":
      case "emittedAt":
      case "sessionId":
      case "agentId":
        out += `,"${k}":"${v}"`
        break
      case "tags":
        out += v.length === 0 ? `,"tags":[]` : `,"tags":${JSON.stringify(v)}`
        break
      case "correlation":
        out += isEmpty(v) ? `,"correlation":{}` : `,"correlation":${JSON.stringify(v)}`
        break
      default:
        out += `,"${k}":${quote(v)}`
    }
  }
  return `{${out.slice(1)},"event":${e.event}}`
}
const fixed = (e: any): string => {
  let s = `{"eventId":"${e.eventId}","seq":${e.seq},"runId":"${e.runId}"`
  if (e.sessionId !== undefined) s += `,"sessionId":"${e.sessionId}"`
  if (e.agentId !== undefined) s += `,"agentId":"${e.agentId}"`
  if (e.provider !== undefined) s += `,"provider":${JSON.stringify(e.provider)}`
  if (e.turnId !== undefined) s += `,"turnId":${JSON.stringify(e.turnId)}`
  s += `,"kind":${quote(e.kind)},"delivery":"${e.delivery}"`
  if (e.endsRun !== undefined) s += `,"endsRun":"${e.endsRun}"`
  return (
    s +
    `,"emittedAt":"${e.emittedAt}","tags":${e.tags.length === 0 ? "[]" : JSON.stringify(e.tags)},"correlation":${isEmpty(e.correlation) ? "{}" : JSON.stringify(e.correlation)},"schemaVersion":${e.schemaVersion},"event":${e.event}}`
  )
}
const run = (name: string, f: any) => {
  const t = process.cpuUsage()
  let n = 0
  for (let k = 0; k < es.length; k += 200) {
    let s = ""
    for (let j = k; j < k + 200; j++) s += `id: ${j}-abcdefgh\ndata: ${f(es[j])}\n\n`
    n += Buffer.from(s).length
  }
  const u = process.cpuUsage(t)
  console.log(name, (u.user + u.system) / es.length, "us/event", n)
}
console.log(fast(es[0]) === toJson(es[0]), fixed(es[0]) === toJson(es[0]))
for (let i = 0; i < 4; i++) {
  run("toJson", toJson)
  run("fast", fast)
  run("fixed", fixed)
  run("none", (e: any) => e.event)
}
