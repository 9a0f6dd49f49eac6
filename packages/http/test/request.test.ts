import { assert, describe, it } from "@effect/vitest"
import { negotiate } from "../src/internal/negotiation.ts"
import { clientAt } from "../src/internal/request.ts"

describe("who an address counts for", () => {
  it("is itself, and for IPv6 its network of 64 bits, however it is written", () => {
    assert.strictEqual(clientAt("10.0.0.1"), "10.0.0.1")
    assert.strictEqual(clientAt("::ffff:10.0.0.1"), "10.0.0.1")
    assert.strictEqual(clientAt("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::/64")
    assert.strictEqual(clientAt("2001:DB8:1:2::6"), "2001:db8:1:2::/64")
    assert.strictEqual(clientAt("2001:db8::6"), "2001:db8:0:0::/64")
    assert.strictEqual(clientAt("::1"), "0:0:0:0::/64")
    assert.strictEqual(clientAt("fe80::1%eth0"), "fe80:0:0:0::/64")
  })
})

describe("negotiation", () => {
  const offered = ["application/json", "application/x-ndjson", "text/event-stream"] as const

  it("never offers what the client gave no quality, and takes what can't be read as none", () => {
    assert.isUndefined(negotiate("application/json;q=0", offered))
    assert.isUndefined(negotiate("application/json;q=x", offered))
    assert.isUndefined(negotiate("image/png, ;, ,", offered))
    assert.strictEqual(negotiate(" ", offered), "application/json")
    assert.strictEqual(negotiate("*/*, application/json;q=0", offered), "application/x-ndjson")
    assert.strictEqual(negotiate("text/*;q=0.9, application/json;q=0.8", offered), "text/event-stream")
  })
})
