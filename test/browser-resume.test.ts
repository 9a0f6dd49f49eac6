import { assert, describe, it } from "@effect/vitest"
import type { Browser, Page } from "playwright-core"
import { afterAll, beforeAll, type TestContext } from "vitest"
import { deadline, launch, open, picture } from "./browser-chromium.ts"
import { networkTo } from "./browser-network.ts"
import { append, appendLines } from "./browser-runs.ts"
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

const serve = async (store: string) => {
  const serving = start(["serve", "--port", "0", "--store", store])
  await serving.until("address", () => serving.stdout().includes("\n"))
  return { base: serving.stdout().trim(), child: serving.child, ended: serving.ended }
}

const state = (page: Page, text: string) => page.locator(".state strong").getByText(text, { exact: true }).waitFor()
const line = (page: Page, text: string) => page.locator(".row.line").getByText(text, { exact: true }).waitFor()

/** What the list shows from its start to its end, as it is scrolled through. */
const rowsShown = (page: Page) =>
  page.locator(".scroller").evaluate(async (scroller) => {
    const shown: Array<{ readonly kind: string; readonly text: string }> = []
    const seen = new Set<string>()
    scroller.scrollTop = 0
    for (;;) {
      // The list is drawn with the first frame, and measured by the second.
      for (let frame = 0; frame < 2; frame++) await new Promise((resolve) => requestAnimationFrame(resolve))
      for (const row of scroller.querySelectorAll(".row")) {
        const position = row.getAttribute("aria-posinset")!
        if (seen.has(position)) continue
        seen.add(position)
        shown.push({ kind: row.classList[1]!, text: row.textContent })
      }
      const before = scroller.scrollTop
      scroller.scrollTop += scroller.clientHeight / 2
      if (scroller.scrollTop === before) return shown
    }
  })

describe("the page", () => {
  it("loses and doubles no line over a killed server and a cut network, and shows that it is back", async (context) => {
    const store = `sqlite:${await directory()}/runs.db`
    let server = await serve(store)
    const network = await networkTo(server.base)
    const { faults, page } = await open(browserOf(context), network.base, { viewport: { width: 1000, height: 600 } })
    const recording = start(["record", "--run", "r1", "--store", store], { isOpenEnded: true })
    let written = 0
    const write = (count: number) => {
      for (let index = 0; index < count; index++) recording.child.stdin!.write(`line ${++written}\n`)
      return `line ${written}`
    }
    await page.goto(`${network.base}#run=r1`)
    await line(page, write(40))
    await state(page, "Live")

    network.cut()
    await state(page, "Connection lost, reconnecting")
    write(9)
    await picture(page, "reconnecting")
    network.mend()
    await line(page, write(1))
    await state(page, "Live")
    await page.locator(".row.resumed").waitFor()
    await picture(page, "resumed")

    server.child.kill("SIGKILL")
    await server.ended
    await state(page, "Connection lost, reconnecting")
    write(40)
    server = await serve(store)
    network.moveTo(server.base)
    await page
      .getByRole("button", { name: "Try now" })
      .click({ timeout: 5000 })
      .catch(() => {
        // It was quicker.
      })
    await line(page, write(1))
    await state(page, "Live")

    // A server that stops tells its streams to come back.
    server.child.kill("SIGTERM")
    await server.ended
    await state(page, "Connection lost, reconnecting")
    server = await serve(store)
    network.moveTo(server.base)
    await line(page, write(40))

    recording.child.stdin!.end()
    await state(page, "Completed")
    const shown = await rowsShown(page)
    assert.deepStrictEqual(
      shown.filter(({ kind }) => kind === "line").map(({ text }) => text),
      Array.from({ length: written }, (_, index) => `${index + 2}line ${index + 1}`),
    )
    assert.strictEqual(shown.filter(({ kind }) => kind === "resumed").length, 3)
    assert.deepStrictEqual(faults, [])
  }, 180_000)

  it("is live in seven windows at once, and a hidden one holds no connection but goes on when it is shown", async (context) => {
    const { base } = await serve("memory:")
    const say = (text: string) => append(base, "r1", [{ _tag: "OutputLine", stream: "stdout", line: text }])
    await say("first")
    const { faults, page: first } = await open(browserOf(context), base)
    const pages = [first]
    while (pages.length < 7) pages.push(await first.context().newPage())
    await Promise.all(pages.map((each) => each.goto(`${base}#run=r1`)))
    // A browser has six connections: four stream, the others are for what takes a moment.
    const looking = "Live, every 2 s"
    await Promise.all(pages.map((each) => each.locator(".state strong").getByText(/^Live/).waitFor()))
    const states = await Promise.all(pages.map((each) => each.locator(".state strong").textContent()))
    assert.strictEqual(states.filter((text) => text === "Live").length, 4)
    assert.strictEqual(states.filter((text) => text === looking).length, 3)
    const page = pages[states.indexOf("Live")]!
    const aside = pages.filter((_, index) => states[index] === looking)
    await picture(aside[0]!, "aside")
    await say("second")
    await Promise.all(pages.map((each) => line(each, "second")))

    // What the browser tells a page when its tab is left, and entered again.
    const become = (visibilityState: DocumentVisibilityState) =>
      page.evaluate((value) => {
        Object.defineProperty(document, "visibilityState", { value, configurable: true })
        document.dispatchEvent(new Event("visibilitychange"))
      }, visibilityState)
    await become("hidden")
    await page.waitForFunction(() => document.title.startsWith("Paused"), undefined, { timeout: deadline })
    await Promise.any(aside.map((each) => state(each, "Live")))
    await say("third")
    await line(aside[0]!, "third")
    assert.strictEqual(await page.locator(".row.line").count(), 2)
    await become("visible")
    await line(page, "third")
    await page
      .locator(".row.resumed")
      .getByText(/^Hidden from .*; it goes on after event 2\.$/)
      .waitFor()
    await state(page, looking)
    await append(base, "r1", [{ _tag: "RunCompleted", finishReason: "exit", iterations: 0 }])
    await Promise.all(pages.map((each) => state(each, "Completed")))
    assert.deepStrictEqual(
      (await rowsShown(page)).map(({ kind }) => kind),
      ["line", "line", "resumed", "line", "end"],
    )
    assert.deepStrictEqual(faults, [])
  }, 120_000)

  it("says why nothing comes when other tabs hold every connection", async (context) => {
    const { base } = await serve("memory:")
    const { page } = await open(browserOf(context), base)
    await page.clock.install()
    await page.goto(base)
    await page.getByRole("heading", { name: "No runs yet" }).waitFor()
    // Streams of something else on this server.
    await page.evaluate(() => {
      const sources = Array.from({ length: 6 }, (_, index) => new EventSource(`/runs/none${index}/events?wait`))
      Object.assign(globalThis, { sources })
      location.hash = "#run=r1"
    })
    await state(page, "Connecting")
    await page.clock.fastForward(10_000)
    await page
      .locator(".state")
      .getByText(/^No answer yet: /)
      .waitFor()
    await page
      .getByRole("navigation")
      .getByText(/^No answer yet: /)
      .waitFor()
    await picture(page, "no-answer")
  }, 120_000)

  it("waits for a run that isn't there yet, and says when one is removed", async (context) => {
    const { base } = await serve("memory:")
    const { faults, page } = await open(browserOf(context), base)
    await page.goto(`${base}#run=later`)
    await state(page, "Waiting for the run to begin")
    await append(base, "later", [{ _tag: "OutputLine", stream: "stdout", line: "here" }])
    await line(page, "here")
    await state(page, "Live")
    assert.strictEqual((await fetch(`${base}runs/later`, { method: "DELETE" })).status, 204)
    await state(page, "The run was removed.")
    await append(base, "later", [{ _tag: "OutputLine", stream: "stdout", line: "another" }])
    await page.getByRole("button", { name: "Read from the start" }).click()
    await line(page, "another")
    assert.strictEqual(await page.locator(".row.line").count(), 1)
    assert.deepStrictEqual(faults, [])
  }, 120_000)

  it("draws, scrolls and finds while it reads 100,000 events, and is whole at their end", async (context) => {
    const total = 100_000
    const store = `sqlite:${await directory()}/runs.db`
    const { base } = await serve(store)
    await appendLines(base, "long", total)
    const { faults, page } = await open(browserOf(context), base)
    // Before anything of the page: what is drawn, each time that it is.
    await page.addInitScript(() => {
      const drawn: Array<{ readonly events: number; readonly rows: number }> = []
      Object.assign(globalThis, { drawn })
      const look = () => {
        const text = document.querySelector(".top .meta")?.textContent ?? ""
        const events = Number(/([\d,]+) event/.exec(text)?.[1]?.replaceAll(",", "") ?? 0)
        if (events !== drawn.at(-1)?.events) drawn.push({ events, rows: document.querySelectorAll(".row").length })
        requestAnimationFrame(look)
      }
      requestAnimationFrame(look)
    })
    await page.goto(`${base}#run=long`)
    // While it still reads, the page takes what is typed.
    const field = page.getByRole("searchbox")
    await field.pressSequentially("line 77")
    await page.locator(".row.line").getByText("line 77", { exact: true }).waitFor()
    assert.strictEqual(await field.inputValue(), "line 77")
    await page.waitForFunction(
      () => /100,00\d events/.test(document.querySelector(".top .meta")?.textContent ?? ""),
      undefined,
      { timeout: 60_000 },
    )
    // "line 77", "line 770" … "line 77999".
    await page.getByRole("search").getByRole("status").getByText("1,111 rows", { exact: true }).waitFor()
    await field.fill("")

    const drawn = await page.evaluate(
      () => (globalThis as unknown as { drawn: Array<{ events: number; rows: number }> }).drawn,
    )
    const steps = drawn.map(({ events }, index) => events - (drawn[index - 1]?.events ?? 0))
    assert.isAbove(drawn.length, 10, "the page is drawn again and again while it reads")
    assert.isBelow(Math.max(...steps), total / 2, "no half of the run is read in one go")
    assert.isBelow(Math.max(...drawn.map(({ rows }) => rows)), 300, "only what is in view is drawn")
    console.log(`100,000 events: drawn ${drawn.length} times, at most ${Math.max(...steps)} events between two of them`)

    const scroller = page.locator(".scroller")
    await scroller.evaluate((element) => element.scrollTo(0, element.scrollHeight / 2))
    await line(page, "line 50000")
    await picture(page, "long")
    await scroller.press("End")
    await page.locator(".row.end").waitFor()
    await line(page, `line ${total}`)
    await scroller.press("Home")
    await line(page, "line 1")
    // Wherever it is, it shows what stands there: each line under its seq, in order.
    for (const place of [0.1, 0.33, 0.77]) {
      await scroller.evaluate((element, at) => element.scrollTo(0, element.scrollHeight * at), place)
      await line(page, `line ${Math.floor(total * place)}`)
      const seqs = await page.locator(".row.line .seq").allTextContents()
      const texts = await page.locator(".row.line code").allTextContents()
      assert.deepStrictEqual(
        texts,
        seqs.map((seq) => `line ${Number(seq) - 1}`),
      )
      assert.deepStrictEqual(
        seqs.map(Number),
        seqs.map((_, index) => Number(seqs[0]) + index),
      )
    }
    assert.deepStrictEqual(faults, [])
  }, 180_000)
})

describe("a browser's EventSource", () => {
  it("resumes over a killed server and a cut network, each event once, and stays away after the end", async (context) => {
    const store = `sqlite:${await directory()}/runs.db`
    let server = await serve(store)
    const network = await networkTo(server.base)
    const { page } = await open(browserOf(context), network.base)
    const recording = start(["record", "--run", "r1", "--store", store], { isOpenEnded: true })
    let written = 0
    const write = (count: number) => {
      for (let index = 0; index < count; index++) recording.child.stdin!.write(`line ${++written}\n`)
    }
    interface Seen {
      readonly seqs: Array<number>
      readonly source: EventSource
      opened: number
      requests: number
    }
    await page.goto(network.base)
    await page.evaluate(() => {
      const source = new EventSource("/runs/r1/events?wait")
      const seen: Seen = { seqs: [], source, opened: 0, requests: 0 }
      Object.assign(globalThis, { seen })
      source.addEventListener("open", () => {
        seen.opened++
      })
      source.addEventListener("message", (event) => {
        const envelope = JSON.parse(event.data as string) as { readonly seq: number }
        if (!event.lastEventId.startsWith(`${envelope.seq}-`)) throw new Error("an id of another event")
        seen.seqs.push(envelope.seq)
      })
    })
    const received = (count: number) =>
      page.waitForFunction((least) => (globalThis as unknown as { seen: Seen }).seen.seqs.length >= least, count, {
        timeout: deadline,
      })
    write(30)
    await received(31)
    network.cut()
    write(30)
    network.mend()
    await received(61)
    server.child.kill("SIGKILL")
    await server.ended
    write(30)
    server = await serve(store)
    network.moveTo(server.base)
    await received(91)
    recording.child.stdin!.end()
    await received(92)
    // It reconnects after the end, is told 204, and gives up.
    await page.waitForFunction(
      () => (globalThis as unknown as { seen: Seen }).seen.source.readyState === EventSource.CLOSED,
      undefined,
      { timeout: deadline },
    )
    const { opened, seqs } = await page.evaluate(() => {
      const { seen } = globalThis as unknown as { readonly seen: Seen }
      return { opened: seen.opened, seqs: seen.seqs }
    })
    assert.deepStrictEqual(
      seqs,
      Array.from({ length: written + 2 }, (_, index) => index + 1),
    )
    assert.strictEqual(opened, 3)
  }, 180_000)
})
