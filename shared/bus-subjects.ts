/**
 * Subjects of the bus: `minikv.<cluster>.changes.<vshard>` and `minikv.<cluster>.heads`.
 *
 * In a subject a dot parts tokens, and `*` and `>` are wildcards. So of a cluster's id only letters, digits,
 * dashes and underscores stand for themselves; every other byte becomes `%` and two digits. No two ids
 * have the same token.
 */
import { utf8 } from "./bytes.ts";
import { VSHARD_COUNT, type VshardId } from "./ids.ts";

const PLAIN = /^[A-Za-z0-9_-]$/;

export function clusterToken(clusterId: string): string {
  let token = "";
  for (const byte of utf8(clusterId)) {
    const char = String.fromCharCode(byte);
    token += PLAIN.test(char) ? char : `%${byte.toString(16).toUpperCase().padStart(2, "0")}`;
  }
  // An empty token is no subject.
  return token === "" ? "%" : token;
}

export type BusSubjects = {
  readonly heads: string;
  readonly changesOf: (vshard: VshardId) => string;
};

/** Made once: a subject costs nothing when a message is sent. */
export function busSubjects(clusterId: string): BusSubjects {
  const cluster = `minikv.${clusterToken(clusterId)}`;
  const changes = Array.from({ length: VSHARD_COUNT }, (_, at) => `${cluster}.changes.${at}`);
  return { heads: `${cluster}.heads`, changesOf: (vshard) => changes[vshard]! };
}
