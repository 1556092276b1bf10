/**
 * Which process is at the other end of a connection on this machine: the proxy has to know who dials.
 *
 * Linux only: `/proc/net/tcp` gives the inode of the socket with that local port (proc(5)), and the
 * process that has it open shows it among its descriptors. Elsewhere nobody is found, and rules
 * for single links have no effect.
 */
import { readdirSync, readFileSync, readlinkSync } from "node:fs";

/** Columns of a line of /proc/net/tcp, split at spaces. */
const LOCAL = 1;
const REMOTE = 2;
const INODE = 9;

/** "0100007F:1F90" is 127.0.0.1:8080. */
const portOf = (address: string): number => Number.parseInt(address.slice(-4), 16);

const asHex = (port: number): string => port.toString(16).toUpperCase().padStart(4, "0");

/**
 * Looks at lines with the port alone: the table has one for each connection of the machine, and every byte
 * of the cluster waits for whoever reads it.
 *
 * @param remotePort where the connection leads to.
 */
export function inodeOfConnection(
  table: string,
  localPort: number,
  remotePort: number,
): string | undefined {
  const wanted = `:${asHex(localPort)} `;
  for (let at = table.indexOf(wanted); at >= 0; at = table.indexOf(wanted, at + 1)) {
    const end = table.indexOf("\n", at);
    const line = table.slice(table.lastIndexOf("\n", at) + 1, end < 0 ? undefined : end);
    const columns = line.trim().split(/\s+/);
    const inode = columns[INODE];
    if (inode === undefined || inode === "0") continue;
    if (portOf(columns[LOCAL]!) !== localPort || portOf(columns[REMOTE]!) !== remotePort) continue;
    return inode;
  }
  return undefined;
}

function holds(pid: number, inode: string): boolean {
  const directory = `/proc/${pid}/fd`;
  const wanted = `socket:[${inode}]`;
  try {
    return readdirSync(directory).some((fd) => {
      try {
        return readlinkSync(`${directory}/${fd}`) === wanted;
      } catch {
        return false;
      }
    });
  } catch {
    return false;
  }
}

export type Connection = {
  /** Of the side that dialled. */
  readonly localPort: number;
  readonly remotePort: number;
};

/** The name of the process, among `names` by process id, that dialled; undefined when it is none. */
export function ownerOf(
  { localPort, remotePort }: Connection,
  names: ReadonlyMap<number, string>,
): string | undefined {
  let table: string;
  try {
    table = readFileSync("/proc/net/tcp", "utf8");
  } catch {
    return undefined;
  }
  const inode = inodeOfConnection(table, localPort, remotePort);
  if (inode === undefined) return undefined;
  for (const [pid, name] of names) if (holds(pid, inode)) return name;
  return undefined;
}
