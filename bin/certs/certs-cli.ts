/**
 * `minikv certs dev`: an authority and certificates for development, in a directory of their own.
 *
 * For trying TLS out, not for running with it: the authority's key lies beside what it signs, for everybody
 * who can read the directory. It overwrites nothing, because what is replaced cannot be had back.
 */
import { chmodSync, existsSync, writeFileSync } from "node:fs";
import { isIP } from "node:net";
import { join } from "node:path";
import { type CliIo, failedCli, parsedArgs, WrongOption } from "#bin/command-line.ts";
import { makeDirectory, pathTrouble } from "#shared/runtime/directories.ts";
import { createAuthority, validForDays } from "./x509.ts";

const HELP = `Usage: minikv certs dev [--dir certs] [--host NAME]…

Makes a certificate authority for development, and certificates for gateways (https-cert), storage
nodes and their clients (tls-cert). They name localhost, 127.0.0.1, ::1 and each --host.

  --dir PATH    where to put them; files that exist are never replaced (default certs)
  --host NAME   one more DNS name or IP address; may be given several times
`;

const DIRECTORY_DEFAULT = "certs";
const HOSTS_ALWAYS = ["localhost", "127.0.0.1", "::1"];
const HOSTS_MAX = 100;
const HOST_NAME = /^(\*\.)?[A-Za-z0-9]([A-Za-z0-9._-]{0,250}[A-Za-z0-9])?$/;
const AUTHORITY_DAYS = 3650;
/** Longer ones are refused by some clients. */
const CERTIFICATE_DAYS = 397;

/** @returns the exit code */
export async function runCertsCli(argv: readonly string[], io: CliIo): Promise<number> {
  try {
    const asked = parse(argv);
    if (asked === undefined) {
      io.out(HELP);
      return 0;
    }
    const { directory, hosts } = asked;
    const existing = FILES.map((name) => join(directory, name)).filter((path) => existsSync(path));
    if (existing.length > 0) {
      const names = existing.join(", ");
      throw new Error(`${names} exist, and nothing is replaced: take another --dir`);
    }
    try {
      makeCertificates(directory, hosts);
    } catch (cause) {
      throw new Error(`${directory}: ${pathTrouble(cause, directory)}`, { cause });
    }
    io.out(howToUse(directory, hosts));
    return 0;
  } catch (error) {
    return failedCli("certs", error, io);
  }
}

/** Undefined for help. @throws WrongOption */
function parse(
  argv: readonly string[],
): { readonly directory: string; readonly hosts: readonly string[] } | undefined {
  const options = {
    dir: { type: "string" },
    host: { type: "string", multiple: true },
    help: { type: "boolean", short: "h" },
  } as const;
  const { values, positionals } = parsedArgs({ args: [...argv], options, allowPositionals: true });
  if (values.help) return undefined;
  if (positionals.length !== 1 || positionals[0] !== "dev") {
    throw new WrongOption("there is one command: dev");
  }
  const hosts = [...new Set([...HOSTS_ALWAYS, ...(values.host ?? [])])];
  const wrong = hosts.find((host) => isIP(host) === 0 && !HOST_NAME.test(host));
  if (wrong !== undefined) {
    throw new WrongOption(`--host ${wrong} is neither a DNS name nor an IP address`);
  }
  if (hosts.length > HOSTS_MAX) throw new WrongOption(`at most ${HOSTS_MAX} hosts`);
  return { directory: values.dir ?? DIRECTORY_DEFAULT, hosts };
}

const NAMES = ["gateway", "storage-node", "client"] as const;
const FILES = [
  "ca.pem",
  "ca-key.pem",
  ...NAMES.flatMap((name) => [`${name}.pem`, `${name}-key.pem`]),
];

/** @throws the system's error, also when a file exists by now */
export function makeCertificates(directory: string, hosts: readonly string[]): void {
  const authority = createAuthority("minikv development CA", validForDays(AUTHORITY_DAYS));
  makeDirectory(directory, 0o700);
  const write = (name: string, bytes: Buffer, mode: number): void => {
    const path = join(directory, name);
    writeFileSync(path, bytes, { mode, flag: "wx" });
    // Whatever the umask says.
    chmodSync(path, mode);
  };
  write("ca.pem", authority.ca, 0o644);
  write("ca-key.pem", authority.key, 0o600);
  for (const name of NAMES) {
    const issued = authority.issue(`minikv ${name}`, hosts, validForDays(CERTIFICATE_DAYS));
    write(`${name}.pem`, issued.cert, 0o644);
    write(`${name}-key.pem`, issued.key, 0o600);
  }
}

function howToUse(directory: string, hosts: readonly string[]): string {
  const file = (name: string): string => join(directory, name);
  return `made in ${directory}, for ${hosts.join(", ")}: development only

HTTPS:
  minikv dev --https-cert ${file("gateway.pem")} --https-key ${file("gateway-key.pem")}
  curl --cacert ${file("ca.pem")} https://localhost:8080/health/ready

Storage nodes and gateways among themselves:
  --tls-ca ${file("ca.pem")} --tls-cert ${file("storage-node.pem")} --tls-key ${file("storage-node-key.pem")}

Clients with a certificate (gateway: --https-client-ca ${file("ca.pem")}):
  curl --cacert ${file("ca.pem")} --cert ${file("client.pem")} --key ${file("client-key.pem")} https://…
`;
}
