// node client.ts port n path  -> connects n raw sockets; counts "\nid: " ; prints ready, then done when every socket saw "event: end"
import net from "node:net"
const [port, n, path, mode] = [Number(process.argv[2]), Number(process.argv[3]), process.argv[4]!, process.argv[5]]
let ready = 0,
  done = 0,
  bytes = 0,
  t0 = 0
for (let i = 0; i < n; i++) {
  const s = net.connect(port, "127.0.0.1")
  s.write(`GET ${path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/event-stream\r\n\r\n`)
  let tail = "",
    seen = false
  s.on("data", (d) => {
    bytes += d.length
    const str = tail + d.latin1Slice(Math.max(0, d.length - 400))
    if (!seen) {
      seen = true
      if (mode === "count") {
        if (!t0) t0 = performance.now()
      }
      if (++ready === n) process.send!("ready")
    }
    if (str.includes("event: end")) {
      if (++done === n) {
        process.send!({ bytes, ms: performance.now() - t0 })
        process.exit(0)
      }
    }
    tail = str.slice(-40)
  })
}
