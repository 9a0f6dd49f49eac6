/** Certificates for servers of the loopback address, made here: a machine that runs the tests need not have OpenSSL's command. */
import { generateKeyPairSync, randomBytes, sign } from "node:crypto"

/** An element of DER: its tag, the length of what it holds, and that. */
const der = (tag: number, ...parts: ReadonlyArray<Buffer>): Buffer => {
  const content = Buffer.concat(parts)
  const { length } = content
  const size = length < 128 ? [length] : length < 256 ? [0x81, length] : [0x82, length >> 8, length & 255]
  return Buffer.concat([Buffer.from([tag, ...size]), content])
}

const sequence = (...parts: ReadonlyArray<Buffer>) => der(0x30, ...parts)
const oid = (hex: string) => der(0x06, Buffer.from(hex, "hex"))
const integer = (bytes: Buffer) => der(0x02, bytes)

/** `YYMMDDHHMMSSZ`. */
const time = (at: Date) => der(0x17, Buffer.from(at.toISOString().replace(/^20|[-:T]|\.\d+/g, "")))

const critical = der(0x01, Buffer.from([0xff]))
const ecdsaWithSha256 = sequence(oid("2a8648ce3d040302"))
const commonName = (name: string) => sequence(der(0x31, sequence(oid("550403"), der(0x0c, Buffer.from(name)))))

const pem = (bytes: Buffer) =>
  `-----BEGIN CERTIFICATE-----\n${bytes.toString("base64").replace(/.{64}/g, "$&\n")}\n-----END CERTIFICATE-----\n`

/** A certificate of 127.0.0.1 that vouches for itself, and its key, as PEM; good for a day. */
export const make = (): { readonly certificate: string; readonly key: string } => {
  const { privateKey, publicKey } = generateKeyPairSync("ec", { namedCurve: "P-256" })
  const day = 24 * 60 * 60 * 1000
  const name = commonName("throughline test")
  const isAuthority = sequence(oid("551d13"), critical, der(0x04, sequence(critical)))
  const address = sequence(oid("551d11"), der(0x04, sequence(der(0x87, Buffer.from([127, 0, 0, 1])))))
  const content = sequence(
    der(0xa0, integer(Buffer.from([2]))),
    // Positive, and its first byte is needed.
    integer(Buffer.concat([Buffer.from([1]), randomBytes(8)])),
    ecdsaWithSha256,
    name,
    sequence(time(new Date(Date.now() - day)), time(new Date(Date.now() + day))),
    name,
    publicKey.export({ type: "spki", format: "der" }),
    der(0xa3, sequence(isAuthority, address)),
  )
  const signature = der(0x03, Buffer.from([0]), sign("sha256", content, privateKey))
  return {
    certificate: pem(sequence(content, ecdsaWithSha256, signature)),
    key: privateKey.export({ type: "pkcs8", format: "pem" }).toString(),
  }
}
