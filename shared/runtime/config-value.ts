/**
 * Values of settings: what types there are, how each is written as text, and how it is read.
 *
 * The same text form serves flags, environment variables and strings in the configuration file, so
 * that `--wal-segment-size 64MiB`, `MINIKV_WAL_SEGMENT_SIZE=64MiB` and `wal-segment-size = "64MiB"`
 * mean the same. A size or duration becomes a plain number of bytes or milliseconds here, once.
 */

/** Where a listener binds, or where a peer is reached. IPv6 hosts are kept without brackets. */
export type HostPort = { readonly host: string; readonly port: number };

type Common = {
  /** Kebab-case: flag `--key`, variable `MINIKV_KEY`, file key `key`. */
  readonly key: string;
  /** One sentence for `--help`. */
  readonly description: string;
  /** Shown as stars by `minikv config explain`. */
  readonly secret?: boolean;
  /** Everybody on a machine sees the command lines of all processes. */
  readonly neverAsFlag?: true;
};

export type Setting =
  /** Any non-empty text, or text that matches `pattern`, which `form` describes in words. */
  | (Common & {
      readonly type: "string";
      readonly default: string;
      readonly pattern?: RegExp;
      readonly form?: string;
    })
  /** `min` and `max` are inclusive. */
  | (Common & {
      readonly type: "int";
      readonly default: number;
      readonly min: number;
      readonly max: number;
    })
  /** A number of bytes. */
  | (Common & {
      readonly type: "bytes";
      readonly default: number;
      readonly min: number;
      readonly max: number;
    })
  /** A number of milliseconds. */
  | (Common & {
      readonly type: "duration";
      readonly default: number;
      readonly min: number;
      readonly max: number;
    })
  | (Common & { readonly type: "bool"; readonly default: boolean })
  | (Common & {
      readonly type: "enum";
      readonly default: string;
      readonly values: readonly string[];
    })
  /** `host:port` to listen on; port 0 lets the system choose. */
  | (Common & { readonly type: "listen"; readonly default: string })
  /** One or more `host:port` of peers: a comma list, a repeated flag, or an array in the file. */
  | (Common & {
      readonly type: "addresses";
      readonly default: string;
      /** None at all is an answer too. */
      readonly optional?: true;
    })
  /** A path, kept as written; a relative one is relative to the working directory. */
  | (Common & { readonly type: "path"; readonly default: string });

/** The type that a program sees for a setting. */
export type ValueOf<S extends Setting> = S extends {
  readonly type: "enum";
  readonly values: readonly (infer V)[];
}
  ? V
  : S["type"] extends "int" | "bytes" | "duration"
    ? number
    : S["type"] extends "bool"
      ? boolean
      : S["type"] extends "listen"
        ? HostPort
        : S["type"] extends "addresses"
          ? readonly HostPort[]
          : string;

export type SettingValue = string | number | boolean | HostPort | readonly HostPort[];

/** What was read, or which form the text should have had. */
export type Parsed =
  | { readonly kind: "ok"; readonly value: SettingValue }
  | { readonly kind: "error"; readonly expected: string };

const BYTE_UNITS = new Map([
  ["b", 1],
  ["kib", 2 ** 10],
  ["mib", 2 ** 20],
  ["gib", 2 ** 30],
  ["tib", 2 ** 40],
  ["kb", 1e3],
  ["mb", 1e6],
  ["gb", 1e9],
  ["tb", 1e12],
]);

const DURATION_UNITS = new Map([
  ["ms", 1],
  ["s", 1000],
  ["m", 60_000],
  ["h", 3_600_000],
  ["d", 86_400_000],
]);

const ok = (value: SettingValue): Parsed => ({ kind: "ok", value });
const error = (expected: string): Parsed => ({ kind: "error", expected });

/** Reads the text form of a setting. */
export function parseSetting(setting: Setting, text: string): Parsed {
  switch (setting.type) {
    case "string":
      if (setting.pattern ? setting.pattern.test(text) : text !== "") return ok(text);
      return error(setting.form ?? "some text");
    case "path":
      return text !== "" && !text.includes("\0") ? ok(text) : error("a path");
    case "bool":
      if (text === "true" || text === "false") return ok(text === "true");
      return error("true or false");
    case "enum":
      return setting.values.includes(text) ? ok(text) : error(setting.values.join(", "));
    case "int":
      return bounded(setting, /^\d+$/.test(text) ? Number(text) : Number.NaN);
    case "bytes":
      return bounded(setting, withUnit(text, BYTE_UNITS, "b"));
    case "duration":
      return bounded(setting, withUnit(text, DURATION_UNITS, undefined));
    case "listen": {
      const address = parseHostPort(text, 0);
      return address === undefined ? error("host:port") : ok(address);
    }
    case "addresses":
      return setting.optional && text === "" ? ok([]) : parseAddresses(text.split(","));
  }
}

/** Reads a value of the configuration file, which has types of its own. */
export function parseFileValue(setting: Setting, value: unknown): Parsed {
  if (typeof value === "string") return parseSetting(setting, value);
  if (setting.type === "bool") {
    return typeof value === "boolean" ? ok(value) : error("true or false");
  }
  if (setting.type === "int" || setting.type === "bytes") {
    return bounded(setting, typeof value === "number" ? value : Number.NaN);
  }
  if (setting.type === "addresses" && Array.isArray(value)) {
    return parseAddresses(value.map((item) => (typeof item === "string" ? item : "")));
  }
  return error(`a string: ${describeForm(setting)}`);
}

/** The default of a setting as a program sees it. */
export function defaultValue(setting: Setting): SettingValue {
  if (setting.type !== "listen" && setting.type !== "addresses") return setting.default;
  const parsed = parseSetting(setting, setting.default);
  if (parsed.kind === "error") throw new TypeError(`default of ${setting.key}: ${parsed.expected}`);
  return parsed.value;
}

/** The text form of a value: what `parseSetting` would read back. */
export function formatValue(setting: Setting, value: SettingValue): string {
  if (typeof value === "number") {
    if (setting.type === "bytes") return formatBytes(value);
    if (setting.type === "duration") return formatDuration(value);
  }
  if (typeof value !== "object") return String(value);
  return "host" in value ? formatHostPort(value) : value.map(formatHostPort).join(",");
}

/** The form of a setting's text, for help and for error messages. */
export function describeForm(setting: Setting): string {
  switch (setting.type) {
    case "string":
      return setting.form ?? "text";
    case "path":
      return "path";
    case "bool":
      return "true or false";
    case "enum":
      return setting.values.join(" | ");
    case "int":
    case "bytes":
    case "duration":
      return boundsText(setting);
    case "listen":
      return "host:port";
    case "addresses":
      return "host:port[,host:port…]";
  }
}

/** @returns undefined when `text` is not `host:port`; `[::1]:80` for IPv6. */
export function parseHostPort(text: string, portMin: number): HostPort | undefined {
  const match = /^(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9._-]+)):(\d{1,5})$/.exec(text.trim());
  if (!match) return undefined;
  const port = Number(match[3]);
  if (port < portMin || port > 65_535) return undefined;
  return { host: (match[1] ?? match[2])!, port };
}

export function formatHostPort(address: HostPort): string {
  const host = address.host.includes(":") ? `[${address.host}]` : address.host;
  return `${host}:${address.port}`;
}

/** Whether only this machine can reach a listener bound to `host`. */
export function isLoopback(host: string): boolean {
  return (
    host === "localhost" ||
    host === "::1" ||
    // Each part in range: "127.999.0.1" would be looked up as a name, and may lead anywhere.
    /^127(\.(25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)){3}$/.test(host)
  );
}

function parseAddresses(items: readonly string[]): Parsed {
  const addresses: HostPort[] = [];
  const seen = new Set<string>();
  for (const item of items) {
    const address = parseHostPort(item, 1);
    if (address === undefined) return error("host:port, separated by commas");
    const text = formatHostPort(address);
    if (seen.has(text)) return error(`each address once (${text} is there twice)`);
    seen.add(text);
    addresses.push(address);
  }
  return addresses.length > 0 ? ok(addresses) : error("at least one host:port");
}

type Bounded = Extract<Setting, { type: "int" | "bytes" | "duration" }>;

function bounded(setting: Bounded, value: number): Parsed {
  const fits = Number.isSafeInteger(value) && value >= setting.min && value <= setting.max;
  return fits ? ok(value) : error(boundsText(setting));
}

function boundsText(setting: Bounded): string {
  const range = `${formatValue(setting, setting.min)} to ${formatValue(setting, setting.max)}`;
  if (setting.type === "int") return `a whole number from ${range}`;
  return setting.type === "bytes" ? `a size from ${range}` : `a duration from ${range}`;
}

/** NaN when the text is not a number with a known unit. */
function withUnit(
  text: string,
  units: ReadonlyMap<string, number>,
  unitDefault: string | undefined,
): number {
  const match = /^(\d+(?:\.\d+)?)\s*([A-Za-z]*)$/.exec(text.trim());
  if (!match) return Number.NaN;
  const unit = match[2] === "" ? unitDefault : match[2]!.toLowerCase();
  const factor = unit === undefined ? undefined : units.get(unit);
  return factor === undefined ? Number.NaN : Math.round(Number(match[1]) * factor);
}

function formatBytes(bytes: number): string {
  for (const unit of ["TiB", "GiB", "MiB", "KiB"]) {
    const factor = BYTE_UNITS.get(unit.toLowerCase())!;
    if (bytes >= factor && bytes % factor === 0) return `${bytes / factor}${unit}`;
  }
  return `${bytes}B`;
}

function formatDuration(milliseconds: number): string {
  for (const unit of ["d", "h", "m", "s"]) {
    const factor = DURATION_UNITS.get(unit)!;
    if (milliseconds >= factor && milliseconds % factor === 0) {
      return `${milliseconds / factor}${unit}`;
    }
  }
  return `${milliseconds}ms`;
}
