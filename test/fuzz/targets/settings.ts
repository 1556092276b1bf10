/** Parsers of settings and of the files that they name. */
import { parseOidcFile } from "#gateway/auth/oidc-file.ts";
import { gatewayConfig } from "#gateway/config.ts";
import { loadConfig } from "#shared/runtime/config.ts";
import {
  formatHostPort,
  formatValue,
  parseHostPort,
  parseSetting,
  type Setting,
} from "#shared/runtime/config-value.ts";
import {
  accepted,
  configError,
  type FuzzTarget,
  holds,
  latin1Text,
  noError,
  textSamples,
  utf8Text,
} from "#test/fuzz/target.ts";

const TOML_WORDS = [
  ...["[", "]", "[[", "]]", "{", "}", "=", '"', '"""', "'", ".", "#", "\n", "\\u0000", "\ufeff"],
  ...["inf", "nan", "1979-05-27", "0x", "1e999", "__proto__", "true", "[[issuer]]\n"],
];

const settings = Object.entries<Setting>(gatewayConfig.settings);

const configFile: FuzzTarget = {
  name: "config-file",
  samples: textSamples(
    'listen = "127.0.0.1:0"\nstorage = ["h:1", "[::1]:2"]\nlog-level = "warn"\n',
    'shutdown-timeout = "20s"\ninsecure-listen = true\ntoken-ttl = "5m"\n',
    "# nothing\n",
    'cluster-id = "c"\ntls-ca = "a"\ntls-cert = "b"\ntls-key = "c"\n',
  ),
  words: [...TOML_WORDS, ...settings.map(([, { key }]) => `${key} = `)],
  check: (input) => {
    const text = utf8Text(input);
    const loaded = accepted(configError, () =>
      loadConfig(gatewayConfig, {
        argv: ["--config", "c.toml"],
        env: { MINIKV_STORAGE: "127.0.0.1:1" },
        readFile: () => text,
      }),
    )?.value;
    if (loaded === undefined) return false;
    for (const [name, setting] of settings) {
      const value = loaded.config[name as keyof typeof loaded.config];
      const shown = formatValue(setting, value);
      const again = parseSetting(setting, shown);
      const isDefault = value === ("default" in setting ? setting.default : undefined);
      holds(isDefault || again.kind === "ok", `${setting.key} is read as it is shown: ${shown}`);
    }
    return true;
  },
};

const oidcFile: FuzzTarget = {
  name: "oidc-file",
  samples: textSamples(
    '[[issuer]]\nurl = "https://a.example"\naudience = "m"\ntenant = "t"\nrole = "ReadOnly"\n',
    '[[issuer]]\nurl = "http://127.0.0.1:1/x"\naudience = ["m"]\ntenant-claim = ["a", "b"]\n' +
      'role-claim = "r"\nroles = { a = "Admin" }\nalgorithms = ["RS256"]\nclock-skew-seconds = 3\n',
  ),
  words: [...TOML_WORDS, "https://", "http://", "@", "?", "tenant = ", "roles = ", "HS256"],
  check: (input) => {
    const rules = accepted(configError, () => parseOidcFile(utf8Text(input), "oidc.toml"))?.value;
    if (rules === undefined) return false;
    holds(rules.length >= 1, "at least one issuer");
    for (const { url, algorithms, audiences } of rules) {
      holds(/^(https:|http:\/\/(127\.|localhost|\[::1\]))/i.test(url), "a url that is safe");
      holds(algorithms.length > 0 && audiences.length > 0, "something is allowed");
    }
    return true;
  },
};

const hostPort: FuzzTarget = {
  name: "host-port",
  samples: textSamples("127.0.0.1:80", "[::1]:7400", "node-1.example:65535", "a_b:0"),
  words: [":", "[", "]", "::", "65536", "-1", ".", " "],
  check: (input) => {
    const text = latin1Text(input);
    const address = accepted(noError, () => parseHostPort(text, 0))!.value;
    if (address === undefined) return false;
    holds(address.port >= 0 && address.port <= 65_535, "a port");
    const again = parseHostPort(formatHostPort(address), 0);
    holds(again?.host === address.host && again.port === address.port, "it comes back");
    return true;
  },
};

const COMMON = { description: "" } as const;
const VALUES: readonly Setting[] = [
  { ...COMMON, key: "a", type: "int", default: 0, min: 0, max: 1e9 },
  { ...COMMON, key: "b", type: "bytes", default: 0, min: 0, max: 2 ** 50 },
  { ...COMMON, key: "c", type: "duration", default: 0, min: 0, max: 2 ** 50 },
  { ...COMMON, key: "d", type: "bool", default: false },
  { ...COMMON, key: "e", type: "addresses", default: "h:1" },
  { ...COMMON, key: "f", type: "listen", default: "h:1" },
];

const value: FuzzTarget = {
  name: "setting",
  samples: textSamples("64MiB", "1.5s", "20", "true", "h:1,[::1]:2", "100TiB", "3d", "0.5kb"),
  words: [".", "e", "ms", "MiB", ",", " ", "-", "00", "999999999999999999"],
  check: (input) => {
    const text = latin1Text(input);
    let isAccepted = false;
    for (const setting of VALUES) {
      const parsed = accepted(noError, () => parseSetting(setting, text))!.value;
      if (parsed.kind === "error") continue;
      isAccepted = true;
      const again = parseSetting(setting, formatValue(setting, parsed.value));
      holds(JSON.stringify(again) === JSON.stringify(parsed), `${setting.type} comes back`);
    }
    return isAccepted;
  },
};

export const SETTING_TARGETS: readonly FuzzTarget[] = [configFile, oidcFile, hostPort, value];
