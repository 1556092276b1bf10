/**
 * The settings of the bus, the same in every program that has one: storage nodes, which publish changes on
 * it, and gateways, which hear of them there.
 *
 * The rule of exposure is that of listeners. Whoever can subscribe reads every tenant's changes, and whoever
 * can publish can tell gateways what never happened; so beyond this machine the bus needs TLS and
 * credentials, or somebody who says by name that the network is trusted.
 */
import { BUS_SERVERS_MAX } from "#shared/limits.ts";
import type { ConfigOf } from "./config.ts";
import { formatHostPort, type HostPort, isLoopback, parseHostPort } from "./config-value.ts";

export const natsSettings = {
  natsUrl: {
    key: "nats-url",
    type: "string",
    // Taken as it is, and looked at below: a wrong one is not repeated, since it may hold a password.
    pattern: /^.*$/,
    form: "nats://host:port or tls://host:port, separated by commas",
    default: "",
    description: "Servers of the bus that carries news of changes. Empty: no bus.",
  },
  natsUser: {
    key: "nats-user",
    type: "string",
    default: "",
    description: "User at the bus, with nats-password or nats-password-file.",
  },
  natsPassword: {
    key: "nats-password",
    type: "string",
    default: "",
    secret: true,
    neverAsFlag: true,
    description: "The user's password.",
  },
  natsPasswordFile: {
    key: "nats-password-file",
    type: "path",
    default: "",
    description: "File with the user's password; readable by its owner only.",
  },
  natsToken: {
    key: "nats-token",
    type: "string",
    default: "",
    secret: true,
    neverAsFlag: true,
    description: "Token for the bus, instead of a user.",
  },
  natsTokenFile: {
    key: "nats-token-file",
    type: "path",
    default: "",
    description: "File with the token; readable by its owner only.",
  },
  natsNkeyFile: {
    key: "nats-nkey-file",
    type: "path",
    default: "",
    description: "File with the seed of an NKey for the bus; readable by its owner only.",
  },
  natsCredsFile: {
    key: "nats-creds-file",
    type: "path",
    default: "",
    description: "Credentials file (JWT and seed) for the bus; readable by its owner only.",
  },
  natsTlsCa: {
    key: "nats-tls-ca",
    type: "path",
    default: "",
    description: "PEM file of the authority of the bus. Empty: those that this machine trusts.",
  },
  natsTlsCert: {
    key: "nats-tls-cert",
    type: "path",
    default: "",
    description: "PEM file of the certificate to show to the bus.",
  },
  natsTlsKey: {
    key: "nats-tls-key",
    type: "path",
    default: "",
    description: "PEM file of the private key of that certificate.",
  },
  natsSealKey: {
    key: "nats-seal-key",
    type: "string",
    default: "",
    secret: true,
    neverAsFlag: true,
    description:
      "Keys (32 bytes in base64, separated by commas) that seal messages; the first is in use. The " +
      "same on all nodes and gateways.",
  },
  natsSealKeyFile: {
    key: "nats-seal-key-file",
    type: "path",
    default: "",
    description: "File with these keys, one a line; readable by its owner only.",
  },
  insecureNats: {
    key: "insecure-nats",
    type: "bool",
    default: false,
    description: "Allow a bus beyond this machine without TLS or credentials.",
  },
} as const;

/** Plain values: they are also sent to the gateway's thread. */
export type NatsConfig = ConfigOf<typeof natsSettings>;

export const hasNats = ({ natsUrl }: Pick<NatsConfig, "natsUrl">): boolean => natsUrl !== "";

export type NatsServers = { readonly tls: boolean; readonly servers: readonly HostPort[] };

const URL_FORM = /^(nats|tls):\/\/([^/?#]+)\/?$/;
const PORT = 4222;

/** @returns undefined for anything but a list of URLs of one scheme, without credentials in them */
export function parseNatsUrl(text: string): NatsServers | undefined {
  const servers: HostPort[] = [];
  const schemes = new Set<string>();
  for (const item of text.split(",")) {
    const match = URL_FORM.exec(item.trim());
    const authority = match?.[2] ?? "";
    const hasPort = /:\d+$/.test(authority) && !/^[^[]*:.*:/.test(authority);
    const server = parseHostPort(hasPort ? authority : `${authority}:${PORT}`, 1);
    if (match === null || server === undefined) return undefined;
    schemes.add(match[1]!);
    servers.push(server);
  }
  if (schemes.size !== 1 || servers.length > BUS_SERVERS_MAX) return undefined;
  return { tls: schemes.has("tls"), servers };
}

/** What is wrong with the settings together; undefined when nothing is. */
export function refuseNatsConfig(config: NatsConfig): string | undefined {
  if (!hasNats(config)) return refuseWithoutUrl(config);
  const parsed = parseNatsUrl(config.natsUrl);
  if (parsed === undefined) {
    return (
      `nats-url takes up to ${BUS_SERVERS_MAX} of nats://host:port, or of tls://host:port, separated by ` +
      "commas. Credentials are settings of their own: nats-user, nats-token-file, nats-nkey-file, nats-creds-file"
    );
  }
  return (
    refuseCredentials(config) ?? refuseTls(config, parsed.tls) ?? refuseExposedNats(config, parsed)
  );
}

/** What would be ignored. */
function refuseWithoutUrl(config: NatsConfig): string | undefined {
  for (const [name, setting] of Object.entries(natsSettings)) {
    if (config[name as keyof NatsConfig] !== setting.default)
      return `${setting.key} needs nats-url`;
  }
  return undefined;
}

function refuseCredentials(config: NatsConfig): string | undefined {
  const isGiven = (text: string) => text !== "";
  const passwords = [config.natsPassword, config.natsPasswordFile].filter(isGiven).length;
  const tokens = [config.natsToken, config.natsTokenFile].filter(isGiven).length;
  const kinds = [
    config.natsUser !== "" || passwords > 0,
    tokens > 0,
    config.natsNkeyFile !== "",
    config.natsCredsFile !== "",
  ].filter(Boolean).length;
  if (kinds > 1) {
    return "credentials for the bus are one of nats-user, nats-token, nats-nkey-file, nats-creds-file";
  }
  if (passwords > 0 !== (config.natsUser !== "")) {
    return "nats-user and its password (nats-password or nats-password-file) need each other";
  }
  if (passwords > 1) return "the password comes from nats-password or from nats-password-file";
  if (tokens > 1) return "the token comes from nats-token or from nats-token-file";
  if (config.natsSealKey !== "" && config.natsSealKeyFile !== "") {
    return "keys that seal messages come from nats-seal-key or from nats-seal-key-file";
  }
  return undefined;
}

function refuseTls(config: NatsConfig, tls: boolean): string | undefined {
  const { natsTlsCa, natsTlsCert, natsTlsKey } = config;
  if (!tls && (natsTlsCa !== "" || natsTlsCert !== "" || natsTlsKey !== "")) {
    return "nats-tls-ca, nats-tls-cert and nats-tls-key need tls:// in nats-url";
  }
  if ((natsTlsCert === "") !== (natsTlsKey === "")) {
    return "a certificate for the bus needs both of nats-tls-cert and nats-tls-key";
  }
  return undefined;
}

function refuseExposedNats(config: NatsConfig, { tls, servers }: NatsServers): string | undefined {
  if (config.insecureNats) return undefined;
  const far = servers.find(({ host }) => !isLoopback(host));
  if (far === undefined) return undefined;
  const { natsUser, natsToken, natsTokenFile, natsNkeyFile, natsCredsFile, natsTlsCert } = config;
  const given = [natsUser, natsToken, natsTokenFile, natsNkeyFile, natsCredsFile, natsTlsCert];
  const missing = [
    tls ? undefined : "TLS (tls:// in nats-url)",
    given.some((text) => text !== "") ? undefined : "credentials (such as nats-creds-file)",
  ].filter((what) => what !== undefined);
  if (missing.length === 0) return undefined;
  return (
    `the bus at ${formatHostPort(far)} is reached over the network, without ${missing.join(" and ")}: ` +
    "whoever can listen in reads all tenants' changes, whoever can send there forges them. Give what is " +
    "missing, or set --insecure-nats (MINIKV_INSECURE_NATS=true, insecure-nats = true) where the network " +
    "is trusted."
  );
}
