/** What the command lines of clients of a gateway share: its URL, and durations. Pure. */
import { parseSetting } from "#shared/runtime/config-value.ts";
import { WrongOption } from "./command-line.ts";

/** Also read from the environment; programs that serve ignore it. */
export const URL_VARIABLE = "MINIKV_URL";
export const URL_DEFAULT = "http://127.0.0.1:8080";

/** Without a slash at the end. @throws WrongOption */
export function urlOf(text: string): string {
  const url = URL.parse(text);
  if (url === null || !/^https?:$/.test(url.protocol)) {
    throw new WrongOption(`"${text}" is no URL of a gateway, such as ${URL_DEFAULT}`);
  }
  return `${url.origin}${url.pathname}`.replace(/\/+$/, "");
}

export type DurationBounds = {
  readonly byDefault: number;
  readonly min?: number;
  readonly max: number;
};

/** @throws WrongOption */
export function durationOf(key: string, text: string | undefined, bounds: DurationBounds): number {
  const { byDefault, min = 1, max } = bounds;
  if (text === undefined) return byDefault;
  const setting = { key, type: "duration", min, max, default: byDefault, description: "" } as const;
  const parsed = parseSetting(setting, text);
  if (parsed.kind === "error") throw new WrongOption(`--${key}: expected ${parsed.expected}`);
  return parsed.value as number;
}

/** Why `fetch` had no answer. The system's own words are in the cause, and Node's advice is for Node's users. */
export function fetchTrouble(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  if (error.name === "TimeoutError") return "it took too long";
  const { cause } = error;
  if (!(cause instanceof Error) || cause.message === "") return error.message;
  const code = "code" in cause ? String(cause.code) : "";
  if (CERTIFICATE_CODES.test(code)) {
    const words = cause.message.replace(/; if the root CA .*/, "");
    return `${words}. NODE_EXTRA_CA_CERTS takes the file of its authority`;
  }
  if (code === "ECONNREFUSED")
    return `${cause.message}. Does a gateway run there? --url names another`;
  return cause.message;
}

/** Of a certificate whose authority is not known here. */
const CERTIFICATE_CODES = /UNABLE_TO_(VERIFY|GET_ISSUER)|SELF_SIGNED|CERT_UNTRUSTED/;
