/**
 * Chromium for tests: Debian's package, driven by playwright-core.
 *
 * A machine without it gets the package where the tests may install it. Where they may not, they say what to install and
 * are skipped; but not where the whole is checked (`CI`): there they fail.
 */
import { mkdirSync } from "node:fs"
import { join } from "node:path"
import process from "node:process"
import { type Browser, type BrowserContextOptions, chromium, type Page } from "playwright-core"
import { onTestFinished } from "vitest"
import * as debianPackage from "./debianPackage.ts"

/** A new browser with an empty profile; `undefined` where there is none and none can be installed. */
export const launch = async (): Promise<Browser | undefined> => {
  const executablePath = process.env["THROUGHLINE_CHROMIUM"] ?? (await debianPackage.installed(debianPackage.chromium))
  if (executablePath === undefined) {
    const message =
      "tests of the page need Chromium: install the package chromium (Debian), or name one in THROUGHLINE_CHROMIUM"
    if (process.env["CI"] !== undefined) throw new Error(message)
    console.warn(message)
    return undefined
  }
  // Every launch has a user data directory of its own, which goes with it.
  return await chromium.launch({
    executablePath,
    headless: true,
    // Chromium's sandbox doesn't run as root.
    chromiumSandbox: process.getuid?.() !== 0,
    timeout: 60_000,
    args: [
      "--disable-gpu",
      "--disable-quic",
      "--no-first-run",
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-sync",
    ],
  })
}

/** How long the page may take to show something; a slow machine needs a part of it. */
export const deadline = 30_000

export interface Tab {
  readonly page: Page
  /** What no page of ours does: errors, refused content, requests to anywhere but its server. */
  readonly faults: Array<string>
}

/** A tab of its own, closed after the test. */
export const open = async (browser: Browser, base: string, options: BrowserContextOptions = {}): Promise<Tab> => {
  const context = await browser.newContext({ viewport: { width: 1280, height: 800 }, ...options })
  onTestFinished(() => context.close())
  context.setDefaultTimeout(deadline)
  const page = await context.newPage()
  const faults: Array<string> = []
  const { host } = new URL(base)
  page.on("pageerror", (error) => faults.push(`error: ${error.message}`))
  page.on("dialog", (dialog) => {
    faults.push(`dialog: ${dialog.message()}`)
    void dialog.dismiss()
  })
  page.on("console", (message) => {
    // The browser itself tells of requests that found no server, or one that refused.
    if (message.type() === "error" && !message.text().startsWith("Failed to load resource")) {
      faults.push(`console: ${message.text()}`)
    }
  })
  page.on("request", (request) => {
    const url = new URL(request.url())
    if (url.protocol !== "data:" && url.host !== host) faults.push(`request: ${request.url()}`)
  })
  return { page, faults }
}

/** Where pictures of the page are kept, for a person to look at. */
const pictures = join(import.meta.dirname, "../node_modules/.cache/screenshots")

export const picture = async (page: Page, name: string): Promise<void> => {
  mkdirSync(pictures, { recursive: true })
  await page.screenshot({ path: join(pictures, `${name}.png`), animations: "disabled" })
}
