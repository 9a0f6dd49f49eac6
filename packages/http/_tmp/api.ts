import { openApi } from "../src/Api.ts"
const d: any = openApi()
for (const [p, m] of Object.entries<any>(d.paths))
  for (const [k, v] of Object.entries<any>(m))
    console.log(
      k,
      p,
      v.operationId,
      Object.entries<any>(v.responses)
        .map(([s, r]) => s + ":" + Object.keys(r.content ?? {}).join("|"))
        .join(" "),
      v.requestBody && Object.keys(v.requestBody.content),
    )
console.log(JSON.stringify(d).length, d.servers, d.openapi, d.security, Object.keys(d.components.schemas))
