/**
 * The file that names other issuers whose tokens are taken (`oidc-file`), read once at start.
 *
 *     [[issuer]]
 *     url = "https://login.example.com/realms/shop"
 *     audience = "minikv"                       # or a list
 *     tenant = "shop"                           # or tenant-claim = "organisation"
 *     role-claim = ["realm_access", "roles"]    # a claim, or the path to one
 *     roles = { kv-writer = "ReadWrite", kv-reader = "ReadOnly" }
 *     subject-prefix = "shop:"
 *     algorithms = ["RS256"]
 *     types = ["at+jwt", "jwt"]
 *     clock-skew-seconds = 30
 *
 * Everything that is not allowed here is refused: a token for another audience, a claim that no role is
 * given to, a key of another algorithm.
 */
import { parse as parseToml } from "smol-toml";
import {
  OIDC_ISSUERS_MAX,
  TOKEN_CLOCK_SKEW_MS,
  TOKEN_CLOCK_SKEW_MS_MAX,
} from "#shared/limits-tokens.ts";
import { ConfigError } from "#shared/runtime/config.ts";
import { isLoopback } from "#shared/runtime/config-value.ts";
import { didYouMean } from "#shared/runtime/suggest.ts";
import { ROLES, type Role } from "./caller.ts";
import { TOKEN_ALGORITHMS, type TokenAlgorithm } from "./compact-token.ts";

export type IssuerRules = {
  /** As in `iss`, character by character. */
  readonly url: string;
  readonly audiences: readonly string[];
  readonly tenant: { readonly name: string } | { readonly claim: readonly string[] };
  readonly role:
    | { readonly fixed: Role }
    | { readonly claim: readonly string[]; readonly roles: ReadonlyMap<string, Role> };
  /** Keeps subjects of two issuers apart. */
  readonly subjectPrefix: string;
  readonly algorithms: readonly TokenAlgorithm[];
  /** What `typ` may be, lower case. */
  readonly types: readonly string[];
  readonly skewMs: number;
};

const MEMBERS = [
  ...["url", "audience", "tenant", "tenant-claim", "role", "role-claim", "roles"],
  ...["subject-prefix", "algorithms", "types", "clock-skew-seconds"],
] as const;
type Member = (typeof MEMBERS)[number];

const LIST_MAX = 64;
const TEXT = /^[\x21-\x7e]{1,512}$/;
const TYPES_DEFAULT = ["at+jwt", "jwt"] as const;

/** @throws ConfigError that names the file, the issuer and what is wrong */
export function parseOidcFile(text: string, path: string): readonly IssuerRules[] {
  const refuse = (what: string): never => {
    throw new ConfigError(`${path}: ${what}`);
  };
  let file: Record<string, unknown>;
  try {
    file = parseToml(text);
  } catch (cause) {
    return refuse(cause instanceof Error ? cause.message : String(cause));
  }
  const { issuer: entries, ...others } = file;
  const [other] = Object.keys(others);
  if (other !== undefined) refuse(`unknown key "${other}"${didYouMean(other, ["issuer"])}`);
  if (!Array.isArray(entries) || entries.length === 0) refuse("needs at least one [[issuer]]");
  const list = entries as readonly unknown[];
  if (list.length > OIDC_ISSUERS_MAX) refuse(`names more than ${OIDC_ISSUERS_MAX} issuers`);
  const seen = new Set<string>();
  return list.map((entry, at) => {
    const rules = new Entry(entry, (what) => refuse(`issuer ${at + 1}: ${what}`)).rules();
    if (seen.has(rules.url)) refuse(`issuer ${at + 1}: ${rules.url} is there twice`);
    seen.add(rules.url);
    return rules;
  });
}

/** One `[[issuer]]`. */
class Entry {
  readonly #table: Readonly<Record<string, unknown>>;
  readonly #refuse: (what: string) => never;

  constructor(table: unknown, refuse: (what: string) => never) {
    if (typeof table !== "object" || table === null) refuse("is no table");
    this.#table = table as Readonly<Record<string, unknown>>;
    this.#refuse = refuse;
    for (const name of Object.keys(this.#table)) {
      if (!MEMBERS.some((member) => member === name)) {
        refuse(`unknown key "${name}"${didYouMean(name, MEMBERS)}`);
      }
    }
  }

  rules(): IssuerRules {
    const url = this.#url();
    return {
      url,
      audiences: this.#texts("audience") ?? this.#refuse("needs an audience"),
      tenant: this.#tenant(),
      role: this.#role(),
      subjectPrefix: this.#text("subject-prefix") ?? `${new URL(url).host}:`,
      algorithms: this.#amongst("algorithms", TOKEN_ALGORITHMS) ?? TOKEN_ALGORITHMS,
      types: (this.#texts("types") ?? TYPES_DEFAULT).map((type) => type.toLowerCase()),
      skewMs: this.#skewMs(),
    };
  }

  #url(): string {
    const url = this.#text("url") ?? this.#refuse("needs a url");
    return isIssuerUrl(url) ? url : this.#refuse(`url ${URL_FORM}`);
  }

  #tenant(): IssuerRules["tenant"] {
    const name = this.#text("tenant");
    const claim = this.#texts("tenant-claim");
    if (name !== undefined && claim === undefined) return { name };
    if (claim !== undefined && name === undefined) return { claim };
    return this.#refuse("needs either tenant or tenant-claim");
  }

  #role(): IssuerRules["role"] {
    const [fixed] = this.#amongst("role", ROLES) ?? [];
    const claim = this.#texts("role-claim");
    const table = this.#table.roles;
    if (fixed !== undefined && claim === undefined && table === undefined) return { fixed };
    const isTable = typeof table === "object" && table !== null && !Array.isArray(table);
    if (fixed !== undefined || claim === undefined || !isTable) {
      this.#refuse("needs either role, or role-claim and roles");
    }
    const roles = new Map<string, Role>();
    for (const [value, name] of Object.entries(table as object)) {
      const role = ROLES.find((known) => known === name);
      roles.set(value, role ?? this.#refuse(`roles: "${value}" must be ${ROLES.join(", ")}`));
    }
    if (roles.size > LIST_MAX) this.#refuse(`roles has more than ${LIST_MAX} entries`);
    return { claim: claim!, roles };
  }

  #skewMs(): number {
    const seconds = this.#table["clock-skew-seconds"] ?? TOKEN_CLOCK_SKEW_MS / 1000;
    const secondsMax = TOKEN_CLOCK_SKEW_MS_MAX / 1000;
    if (typeof seconds === "number" && Number.isInteger(seconds)) {
      if (seconds >= 0 && seconds <= secondsMax) return seconds * 1000;
    }
    return this.#refuse(`clock-skew-seconds must be an integer from 0 to ${secondsMax}`);
  }

  #text(name: Member): string | undefined {
    const value = this.#table[name];
    if (value === undefined) return undefined;
    if (typeof value === "string" && TEXT.test(value)) return value;
    return this.#refuse(`${name} must be 1 to 512 visible ASCII characters`);
  }

  /** One text, or a list of some. */
  #texts(name: Member): readonly string[] | undefined {
    const value = this.#table[name];
    if (value === undefined) return undefined;
    const list: readonly unknown[] = Array.isArray(value) ? value : [value];
    const isText = (item: unknown) => typeof item === "string" && TEXT.test(item);
    if (list.length >= 1 && list.length <= LIST_MAX && list.every(isText)) {
      return list as readonly string[];
    }
    return this.#refuse(`${name} must be visible ASCII characters, or a list of such`);
  }

  #amongst<T extends string>(name: Member, known: readonly T[]): readonly T[] | undefined {
    const texts = this.#texts(name);
    if (texts?.every((text) => known.some((one) => one === text))) return texts as readonly T[];
    return texts === undefined ? undefined : this.#refuse(`${name}: known are ${known.join(", ")}`);
  }
}

const URL_FORM =
  "must be an https URL without query, fragment and user (http only for a loopback address)";

function isIssuerUrl(text: string): boolean {
  const url = URL.parse(text);
  if (url === null || /[?#\\]/.test(text)) return false;
  // As it stands, not as a parser mends it: it is compared with `iss` character by character.
  if (!text.startsWith(`${url.protocol}//${url.host}`)) return false;
  return url.username === "" && url.password === "" && isSecureUrl(url);
}

/** Whether what comes from there cannot have been changed on the way. */
export function isSecureUrl({ protocol, hostname }: URL): boolean {
  if (protocol === "https:") return true;
  return protocol === "http:" && isLoopback(hostname.replace(/^\[|\]$/g, ""));
}
