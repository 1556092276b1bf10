/** The command line of `minikv top`. Pure. */
import { API_KEY_FILE_VARIABLE, API_KEY_VARIABLE } from "#bin/client-key.ts";
import { durationOf, URL_DEFAULT, URL_VARIABLE, urlOf } from "#bin/client-options.ts";
import { parsedArgs, WrongOption } from "#bin/command-line.ts";
import { NODE_REPORT_INTERVAL_MS } from "#shared/limits.ts";
import { SORTS, type Sort } from "./screen.ts";

export type TopOptions = {
  readonly urls: readonly string[];
  readonly intervalMs: number;
  readonly timeoutMs: number;
  readonly isOnce: boolean;
  readonly isJson: boolean;
  readonly sort: Sort;
  readonly apiKeyFile: string | undefined;
};

export type ParsedTop =
  | { readonly kind: "run"; readonly options: TopOptions }
  | { readonly kind: "help" }
  | { readonly kind: "wrong"; readonly message: string };

const URLS_MAX = 16;
const INTERVAL_MS_DEFAULT = 1_000;
const INTERVAL_MS_MAX = 60_000;
const TIMEOUT_MS_DEFAULT = 2_000;
const TIMEOUT_MS_MAX = 60_000;

export const HELP = `Usage: minikv top [options]

Shows gateways and storage nodes live: leaders, throughput, latency, lag, watchers.

Options:
  --url URL              a gateway; may be given several times, or with commas: each is shown, and any
                         of them is asked for the nodes; default ${URL_VARIABLE}, else ${URL_DEFAULT}
  --interval DURATION    between two looks; default 1s, at least ${NODE_REPORT_INTERVAL_MS}ms
  --sort COLUMN          of the nodes: ${SORTS.join(", ")}
  --once                 look twice, an interval apart, print what was found, and end
  --json                 print JSON; without --once a line for each look
  --api-key-file FILE    with the API key to send; default ${API_KEY_FILE_VARIABLE}, or the key
                         itself in ${API_KEY_VARIABLE}
  --timeout DURATION     for an answer; default 2s

Keys: q ends it, s sorts by the next column. NO_COLOR is heeded.

Exit codes: 0 done, 1 with --once: no gateway told, 2 wrong command line.
`;

const SPEC = {
  url: { type: "string", multiple: true },
  interval: { type: "string" },
  sort: { type: "string" },
  once: { type: "boolean" },
  json: { type: "boolean" },
  "api-key-file": { type: "string" },
  timeout: { type: "string" },
  help: { type: "boolean", short: "h" },
} as const;

/** Never throws: wrong use is an ordinary outcome. */
export function parseTopOptions(
  argv: readonly string[],
  env: Readonly<Record<string, string | undefined>>,
): ParsedTop {
  try {
    const { values } = parsedArgs({ args: [...argv], options: SPEC });
    if (values.help) return { kind: "help" };
    const bounds = { byDefault: TIMEOUT_MS_DEFAULT, max: TIMEOUT_MS_MAX };
    const options: TopOptions = {
      urls: urlsOf(values.url ?? [env[URL_VARIABLE] ?? URL_DEFAULT]),
      intervalMs: durationOf("interval", values.interval, {
        byDefault: INTERVAL_MS_DEFAULT,
        // Nodes report no more often: there would be nothing new.
        min: NODE_REPORT_INTERVAL_MS,
        max: INTERVAL_MS_MAX,
      }),
      timeoutMs: durationOf("timeout", values.timeout, bounds),
      isOnce: values.once ?? false,
      isJson: values.json ?? false,
      sort: sortOf(values.sort),
      apiKeyFile: values["api-key-file"],
    };
    return { kind: "run", options };
  } catch (error) {
    if (error instanceof WrongOption) return { kind: "wrong", message: error.message };
    throw error;
  }
}

function urlsOf(texts: readonly string[]): readonly string[] {
  const urls = new Set(texts.flatMap((text) => text.split(",")).map((text) => urlOf(text.trim())));
  if (urls.size <= URLS_MAX) return [...urls];
  throw new WrongOption(`--url: at most ${URLS_MAX} gateways`);
}

function sortOf(text: string | undefined): Sort {
  if (text === undefined) return "node";
  const found = SORTS.find((sort) => sort === text);
  if (found !== undefined) return found;
  throw new WrongOption(`--sort: expected ${SORTS.join(", ")}`);
}
