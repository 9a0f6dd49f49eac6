import { assert, describe, it } from "@effect/vitest"
import type { Browser, Page } from "playwright-core"
import { afterAll, beforeAll, type TestContext } from "vitest"
import { faintTexts } from "./browser-contrast.ts"
import { deadline, launch, open, picture } from "./browser-chromium.ts"
import { agentEnding, agentRun, answer, append } from "./browser-runs.ts"
import { directory, start } from "./cli-harness.ts"

let browser: Browser | undefined

beforeAll(async () => {
  browser = await launch()
}, 600_000)

afterAll(() => browser?.close())

/** Without a browser there is nothing to test; where that is a failure, the set-up has failed. */
const browserOf = (context: TestContext): Browser => {
  if (browser === undefined) context.skip("no Chromium")
  return browser
}

/** A server of its own; its address. */
const serve = async (...args: ReadonlyArray<string>): Promise<string> => {
  const serving = start(["serve", "--port", "0", "--store", "memory:", ...args])
  await serving.until("address", () => serving.stdout().includes("\n"))
  return serving.stdout().trim()
}

const state = (page: Page) => page.locator(".state strong")

describe("the page", () => {
  it("shows a run live, to its end: text in one piece, tool calls folded, output as a terminal", async (context) => {
    const base = await serve()
    const { faults, page } = await open(browserOf(context), base, { colorScheme: "light" })
    await append(base, "other", [
      { _tag: "RunStarted", name: "other" },
      { _tag: "RunCancelled", reason: "SIGINT" },
    ])
    await page.goto(base)
    await page.getByRole("link", { name: /^other/ }).waitFor()
    await append(base, "fix-the-build-2041", agentRun, "?sessionId=ENG-2041")
    // The list finds the run by itself.
    await page.getByRole("link", { name: /^fix-the-build-2041.*Running/ }).click()
    await state(page).getByText("Live", { exact: true }).waitFor()
    const list = page.getByRole("region", { name: "Events of fix-the-build" })
    await list.getByText("npm error errno 1").waitFor()
    await list.evaluate((element) => element.scrollTo(0, 0))
    const paragraphs = await list.locator(".row.text p").allTextContents()
    assert.deepStrictEqual(paragraphs.slice(0, 2), answer.split("\n\n"))
    assert.strictEqual(await list.locator(".fg2").first().textContent(), "✓")
    assert.strictEqual(await list.getByText("\u001b").count(), 0)

    const tool = list.getByRole("button", { name: /edit_file.*done/ })
    assert.strictEqual(await tool.getAttribute("aria-expanded"), "false")
    assert.strictEqual(await list.getByText('"changed": 1').count(), 0)
    await picture(page, "live-light")
    await tool.click()
    await list.getByText('"changed": 1').waitFor()
    await page.emulateMedia({ colorScheme: "dark" })
    await picture(page, "live-dark")
    await tool.click()

    await append(base, "fix-the-build-2041", agentEnding)
    await state(page).getByText("Completed", { exact: true }).waitFor()
    await list.press("End")
    await list.getByText("stop · 2 iterations").waitFor()
    await page.getByRole("link", { name: /^fix-the-build-2041.*Completed/ }).waitFor()
    await picture(page, "ended-dark")
    await page.emulateMedia({ colorScheme: "light" })
    await page.setViewportSize({ width: 390, height: 780 })
    await page.getByRole("link", { name: "All runs" }).waitFor()
    await picture(page, "ended-narrow")
    // Nothing is cut off at the side.
    assert.isTrue(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth))
    await page.getByRole("link", { name: "All runs" }).click()
    await page.getByRole("link", { name: /^other.*Cancelled/ }).waitFor()
    await picture(page, "runs-narrow")
    assert.deepStrictEqual(faults, [])
  }, 120_000)

  it("shows whatever a run says as text, and nothing that it says does anything", async (context) => {
    const base = await serve()
    const { faults, page } = await open(browserOf(context), base)
    const hostile = [
      `<img src=x onerror="globalThis.hacked=1">`,
      `<script>globalThis.hacked=2</script>`,
      `</code><iframe srcdoc="<script>parent.hacked=3</script>"></iframe>`,
      `<a href="javascript:globalThis.hacked=4">click</a>`,
      `\u001b]8;;javascript:globalThis.hacked=5\u0007link\u001b]8;;\u0007`,
      `\u001b[38;2;1;2;3;background:url(http://example.invalid/x)m styled`,
      `<style>body{background:url(http://example.invalid/y)}</style>`,
      `{{constructor.constructor("globalThis.hacked=6")()}}`,
      `שלום \u202egnp.exe`,
    ]
    const turned = hostile.at(-1)!
    await append(base, "hostile", [
      { _tag: "RunStarted", name: hostile[0], input: { __proto__: null, constructor: hostile[1] } },
      { _tag: "ModelStarted", messageId: "__proto__", model: hostile[1] },
      ...hostile.map((text) => ({ _tag: "TextDelta", messageId: "__proto__", text: `${text}\n\n` })),
      ...hostile.map((line) => ({ _tag: "OutputLine", stream: "stdout", line })),
      { _tag: "ToolCallCompleted", toolCallId: "constructor", name: hostile[0], arguments: { command: hostile[2] } },
      { _tag: "Custom", name: hostile[2], data: hostile },
      { _tag: "SubagentStarted", subagentId: "s", task: hostile[3], runId: "a:b" },
      { _tag: "RunStarted", name: turned },
      { _tag: "ModelStarted", messageId: turned, model: turned },
      { _tag: "ReasoningDelta", messageId: turned, text: turned },
      { _tag: "ToolCallCompleted", toolCallId: turned, name: turned, arguments: { command: turned } },
      { _tag: "Custom", name: turned, data: turned },
      { _tag: "RunFailed", error: { message: `${hostile[0]} ${turned}` }, reason: hostile[1] },
    ])
    await page.setViewportSize({ width: 1280, height: 4000 })
    await page.goto(`${base}#run=hostile`)
    await state(page).getByText("Failed", { exact: true }).waitFor()
    await page.locator(".row.end").waitFor()
    for (const fold of await page.locator(".row .fold").all()) await fold.click()
    await page.getByRole("button", { expanded: true }).first().waitFor()
    const shown = await page.locator("main").textContent()
    for (const text of hostile.slice(0, 4)) assert.include(shown, text)
    assert.strictEqual(await page.locator("main :is(img, script, iframe, style, object, svg)").count(), 0)
    assert.deepStrictEqual(
      await page.locator("main a").evaluateAll((links) => links.map((link) => link.getAttribute("href"))),
      ["#", "#run=a%3Ab"],
    )
    assert.isUndefined(await page.evaluate(() => (globalThis as { hacked?: unknown }).hacked))
    // Nothing turns letters around, and a text that runs the other way moves nothing beside it.
    const marked = turned.replace("\u202e", "U+202E")
    assert.strictEqual(await page.getByRole("heading", { level: 1 }).textContent(), marked)
    assert.strictEqual(await page.title(), `Failed · \u2068${marked}\u2069 · Throughline`)
    const { everything, loose } = await page.evaluate(() => {
      const found: Array<string> = []
      const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT)
      for (let node = texts.nextNode(); node !== null; node = texts.nextNode()) {
        if (!/[\u0590-\u05ff]/.test(node.textContent!)) continue
        const own = node.parentElement!.closest("bdi, .row.text p, code, pre, .prose")
        if (own === null || !/isolate|plaintext/.test(getComputedStyle(own).unicodeBidi)) found.push(node.textContent!)
      }
      return { everything: document.documentElement.outerHTML, loose: found }
    })
    assert.notMatch(everything.replace(/<title>.*?<\/title>/, ""), /[\u202a-\u202e\u2066-\u2069]/)
    assert.deepStrictEqual(loose, [])
    assert.isAbove(everything.split("U+202E").length, 10)
    assert.deepStrictEqual(faults, [])

    // What the header forbids is forbidden: the page itself could not do it either.
    await page.evaluate(() => {
      const violations = new Set<string>()
      Object.assign(globalThis, { violations })
      document.addEventListener("securitypolicyviolation", (event) => violations.add(event.effectiveDirective))
      const image = document.createElement("img")
      image.src = "http://127.0.0.1:9/pixel"
      document.body.append(image)
      const style = document.createElement("style")
      style.textContent = "body { display: none }"
      document.body.append(style)
      fetch("http://127.0.0.1:9/").catch(() => {})
      try {
        document.body.insertAdjacentHTML("beforeend", "<b>markup</b>")
      } catch {
        // Only trusted types would be taken, and the page makes none.
      }
    })
    const forbidden = ["connect-src", "img-src", "require-trusted-types-for", "style-src-elem"]
    await page.waitForFunction(
      (directives) =>
        directives.every((name) => (globalThis as unknown as Record<"violations", Set<string>>).violations.has(name)),
      forbidden,
      { timeout: deadline },
    )
    assert.strictEqual(await page.getByText("markup", { exact: true }).count(), 0)
  }, 120_000)

  it("is read and driven by keyboard and screen reader", async (context) => {
    const base = await serve()
    const { faults, page } = await open(browserOf(context), base)
    const lines = Array.from({ length: 300 }, (_, index) => ({
      _tag: "OutputLine",
      stream: "stdout",
      line: `${index}`,
    }))
    await append(base, "keys", [...agentRun, ...lines, ...agentEnding])
    await page.goto(base)
    await page.getByRole("navigation", { name: "Runs" }).getByRole("link", { name: /^keys/ }).focus()
    await page.keyboard.press("Enter")
    // Who chose a run goes on reading there.
    const heading = page.getByRole("heading", { level: 1, name: "fix-the-build" })
    await heading.waitFor()
    await page.waitForFunction(() => document.activeElement?.tagName === "H1", undefined, { timeout: deadline })
    await page.getByRole("main").getByRole("status").filter({ hasText: "Completed" }).waitFor()
    assert.strictEqual(await page.getByRole("link", { name: /^keys/ }).getAttribute("aria-current"), "page")
    const items = page.getByRole("list").getByRole("listitem")
    await page.locator(".row.heading").first().waitFor()
    const last = page.locator(".row").last()
    const total = await last.getAttribute("aria-setsize")
    assert.strictEqual(await page.locator(".row").first().getAttribute("aria-posinset"), "1")
    assert.isAbove(await items.count(), 5)

    const fold = page.getByRole("button", { name: /edit_file/ })
    await fold.focus()
    await page.keyboard.press("Enter")
    await page.getByRole("heading", { name: "Arguments" }).waitFor()
    assert.strictEqual(await fold.getAttribute("aria-expanded"), "true")

    // A row that had the focus and is out of view has left it to the list, not to the page.
    await page.keyboard.press("End")
    await page.locator(".row.end").waitFor()
    await page.waitForFunction(() => document.activeElement?.className === "scroller", undefined, { timeout: deadline })
    await page.keyboard.press("Home")
    await fold.waitFor()

    // A key leads to the field, and what is typed leaves the rows that have it.
    await page.keyboard.press("/")
    await page.keyboard.type("ELIFE")
    await page.getByRole("search").getByRole("status").filter({ hasText: "1 row" }).waitFor()
    assert.strictEqual(await page.locator(".row").count(), 1)
    await page.keyboard.press("Escape")
    await page.waitForFunction((all) => document.querySelector(".row")?.getAttribute("aria-setsize") === all, total, {
      timeout: deadline,
    })
    assert.deepStrictEqual(faults, [])
  }, 120_000)

  it("lists every run there is: the last ones at once, the others when they are asked for", async (context) => {
    const base = await serve()
    const { faults, page } = await open(browserOf(context), base)
    const total = 1250
    const runs = Array.from({ length: total }, (_, index) => ({
      runId: `run-${total - index}`,
      status: index === 700 ? "running" : "completed",
      firstSeq: 1,
      lastSeq: 2,
      startedAt: "2026-01-31T09:30:00.000Z",
      ...(index % 3 === 0 ? { sessionId: "ENG-2041" } : {}),
    }))
    // What a server with as many answers.
    await page.route("**/runs?*", async (route) => {
      const query = new URL(route.request().url()).searchParams
      const [from, limit] = [Number(query.get("before") ?? 0), Number(query.get("limit"))]
      const some = runs.slice(from, from + limit)
      await route.fulfill({ json: { runs: some, ...(some.length < limit ? {} : { next: String(from + limit) }) } })
    })
    await page.goto(base)
    const list = page.getByRole("navigation").getByRole("list", { name: "Runs" })
    await list.getByRole("link", { name: /^run-1250/ }).waitFor()
    for (const shown of ["100", "600", "1,100"]) {
      await page.getByText(`The last ${shown} runs`, { exact: true }).waitFor()
      await page.getByRole("button", { name: "Show more" }).click()
    }
    await page.getByText("1 running", { exact: true }).waitFor()
    await list.locator(`[aria-setsize="${total}"]`).first().waitFor()
    assert.strictEqual(await page.getByRole("button", { name: "Show more" }).count(), 0)
    assert.isBelow(await list.getByRole("listitem").count(), 100)
    await page.locator(".items").evaluate((element) => element.scrollTo(0, element.scrollHeight))
    await list.getByRole("link", { name: /^run-1 / }).waitFor()
    // What ends further down is seen to end.
    runs[700] = { ...runs[700]!, status: "completed" }
    await page.getByText("1 running", { exact: true }).waitFor({ state: "hidden" })
    assert.deepStrictEqual(faults, [])
  }, 120_000)

  for (const colorScheme of ["light", "dark"] as const) {
    it(`is readable in ${colorScheme}: no text has a contrast under 4.5`, async (context) => {
      const base = await serve()
      const { page } = await open(browserOf(context), base, { colorScheme, reducedMotion: "reduce" })
      await append(base, "colours", [...agentRun, ...agentEnding])
      await append(base, "failed", [{ _tag: "RunFailed", error: { message: "no space left" }, reason: "exit" }])
      await page.setViewportSize({ width: 1280, height: 1600 })
      for (const run of ["colours", "failed"]) {
        await page.goto(`${base}#run=${run}`)
        await page.locator(".row.end").waitFor()
        await page.getByRole("link", { name: /^colours/ }).waitFor()
        assert.deepStrictEqual(await page.evaluate(faintTexts), [])
      }
    }, 120_000)
  }

  it("asks for the token of a server that wants one, and reads a signed link's run without", async (context) => {
    const token = "a-token-of-some-length"
    const base = await serve("--token", token)
    const { faults, page } = await open(browserOf(context), base)
    await page.goto(base)
    const field = page.getByLabel("Token")
    // Typed on another keyboard: no request could carry it, and nothing is kept of it.
    await field.fill("пароль-пароль-пароль")
    await page.keyboard.press("Enter")
    await page.getByText("No token has “п” in it").waitFor()
    await picture(page, "token-refused")
    await page.evaluate(() => sessionStorage.setItem("throughline-token", "пароль-пароль-пароль"))
    await page.reload()
    await field.fill("not-the-token-of-this-server")
    await page.keyboard.press("Enter")
    await page.getByText("The server refused this token.").waitFor()
    await field.fill(token)
    // Nothing is said of a token before the server has.
    const said = page.getByRole("status")
    await page.route("**/runs?*", async (route) => {
      await said.getByText("Asking the server.", { exact: true }).waitFor()
      await route.continue()
    })
    await page.getByRole("button", { name: "Show the runs" }).click()
    await page.getByRole("heading", { name: "No runs yet" }).waitFor()
    await page.unroute("**/runs?*")
    assert.notInclude(page.url(), token)

    const recording = start(
      ["record", "--serve", "--run", "shared", "--store", `sqlite:${await directory()}/runs.db`],
      {
        isOpenEnded: true,
      },
    )
    await recording.until("link", () => /watch it at \S+\n/.test(recording.stderr()))
    const link = /watch it at (\S+)/.exec(recording.stderr())![1]!
    const guest = await open(browserOf(context), link)
    await guest.page.goto(link)
    recording.child.stdin!.write("hello\n")
    await guest.page.locator(".row.line").filter({ hasText: "hello" }).waitFor()
    assert.strictEqual(await guest.page.getByRole("navigation").count(), 0)
    recording.child.stdin!.end()
    await state(guest.page).getByText("Completed", { exact: true }).waitFor()
    assert.deepStrictEqual([...faults, ...guest.faults], [])
  }, 120_000)
})
