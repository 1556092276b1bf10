/**
 * What a data directory keeps of its cluster, beside its identity: the join token, the newest map, and
 * with what the cluster was founded, if this node was among the founders.
 */
import { readFile } from "node:fs/promises";
import { crc32 } from "node:zlib";
import { fromBinary, toBinary } from "@bufbuild/protobuf";
import { fromMapMessage, toMapMessage } from "#proto/codec/cluster-map.ts";
import { BootstrapRequestSchema, ClusterMapSchema } from "#proto/gen/minikv/v1/cluster_pb.ts";
import { concatBytes, readUint32, writeUint32 } from "#shared/bytes.ts";
import type { ClusterMap } from "#shared/cluster-map.ts";
import { KvError } from "#shared/errors.ts";
import type { Random } from "#shared/random.ts";
import { type Founding, fromFoundingMessage, toFoundingMessage } from "./meta/founding.ts";
import { replaceFile } from "./replace-file.ts";

const TOKEN_SIZE_BYTES = 16;
const CRC_SIZE_BYTES = 4;

async function readIfThere(path: string): Promise<Uint8Array | undefined> {
  try {
    return new Uint8Array(await readFile(path));
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "ENOENT") return undefined;
    throw new KvError("UNAVAILABLE", `cannot read ${path}: ${String(error)}`, { cause: error });
  }
}

/** The token in the file; a new one is drawn, and on disk, if there is none. */
export async function readJoinToken(path: string, random: Random): Promise<Uint8Array> {
  const found = await readIfThere(path);
  if (found?.length === TOKEN_SIZE_BYTES) return found;
  if (found !== undefined) {
    throw new KvError("DATA_CORRUPT", `${path} is damaged: restore it from a backup`);
  }
  const token = random.fill(new Uint8Array(TOKEN_SIZE_BYTES));
  await replaceFile(path, token);
  return token;
}

/** CRC-32 of the rest (4 bytes, big endian), then a protobuf message. */
async function writeMessage(path: string, message: Uint8Array): Promise<void> {
  const head = new Uint8Array(CRC_SIZE_BYTES);
  writeUint32(head, 0, crc32(message));
  await replaceFile(path, concatBytes(head, message));
}

/** @throws KvError DATA_CORRUPT */
async function readMessage(path: string): Promise<Uint8Array | undefined> {
  const bytes = await readIfThere(path);
  if (bytes === undefined) return undefined;
  const message = bytes.subarray(CRC_SIZE_BYTES);
  if (bytes.length < CRC_SIZE_BYTES || crc32(message) !== readUint32(bytes, 0)) {
    throw new KvError("DATA_CORRUPT", `${path} is damaged: restore it from a backup`);
  }
  return message;
}

export async function writeMapFile(path: string, map: ClusterMap): Promise<void> {
  await writeMessage(path, toBinary(ClusterMapSchema, toMapMessage(map)));
}

/** @throws KvError DATA_CORRUPT */
export async function readMapFile(path: string): Promise<ClusterMap | undefined> {
  const message = await readMessage(path);
  return message && fromMapMessage(fromBinary(ClusterMapSchema, message));
}

export async function writeFoundingFile(path: string, founding: Founding): Promise<void> {
  await writeMessage(path, toBinary(BootstrapRequestSchema, toFoundingMessage(founding)));
}

/** @throws KvError DATA_CORRUPT */
export async function readFoundingFile(path: string): Promise<Founding | undefined> {
  const message = await readMessage(path);
  return message && fromFoundingMessage(fromBinary(BootstrapRequestSchema, message));
}
