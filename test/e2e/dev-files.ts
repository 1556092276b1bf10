/** What a cluster of `minikv dev --nodes` leaves to be seen: the file that says where it is, and its processes. */
import { readFileSync } from "node:fs";
import { join } from "node:path";

export type ClusterFile = {
  readonly gateways: readonly { readonly url: string; readonly pid: number | null }[];
  readonly storageNodes: readonly {
    readonly id: number;
    readonly address: string;
    readonly pid: number | null;
    readonly dataDir: string;
  }[];
};

export const clusterFile = (dir: string): ClusterFile =>
  JSON.parse(readFileSync(join(dir, "cluster.json"), "utf8")) as ClusterFile;

export const pidsOf = ({ gateways, storageNodes }: ClusterFile): readonly number[] =>
  [...gateways, ...storageNodes].flatMap(({ pid }) => (pid === null ? [] : [pid]));

/** Whether a process with this id exists. */
export function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}
