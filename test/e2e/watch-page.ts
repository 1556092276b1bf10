/** The page of docs/watch.md, in a process that has what browsers have: fetch and EventSource. */
import { type ChildProcess, spawn } from "node:child_process";
import { readFileSync } from "node:fs";

/** Its `watch` function, as it stands in the document. */
function documentedWatch(): string {
  const text = readFileSync(new URL("../../docs/watch.md", import.meta.url), "utf8");
  const code = /```js\n(async function watch\([\s\S]*?)```/.exec(text)?.[1];
  if (code === undefined) throw new Error("docs/watch.md has no page");
  return code;
}

export class WatchPage {
  readonly #child: ChildProcess;
  #output = "";

  /** @param urls of the server: the page's first ticket is for the first one, and all others for the last one */
  constructor(urls: readonly [first: string, then: string], key: string) {
    const program = `
      const [first, then] = ${JSON.stringify(urls)};
      let tickets = 0;
      const base = () => (tickets === 1 ? first : then);
      const { fetch: send, EventSource: Source } = globalThis;
      globalThis.fetch = (path, init) => (tickets++, send(base() + path, init));
      globalThis.EventSource = class extends Source {
        constructor(path) {
          super(base() + path);
        }
      };
      ${documentedWatch()}
      watch(process.env.WATCH_KEY, ({ op, key, value }) => console.log(op, key, value));`;
    this.#child = spawn(process.execPath, ["--experimental-eventsource", "--eval", program], {
      env: { ...process.env, WATCH_KEY: key },
      stdio: ["ignore", "pipe", "inherit"],
    });
    this.#child.stdout!.setEncoding("utf8").on("data", (text: string) => {
      this.#output += text;
    });
  }

  /** What it was told, a line for each change. */
  get lines(): readonly string[] {
    return this.#output.split("\n").filter((line) => line !== "");
  }

  close(): void {
    this.#child.kill("SIGKILL");
  }
}
