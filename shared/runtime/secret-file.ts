/** Reads a file with a secret in it, which nobody but its owner may be able to read. */
import { closeSync, constants, fstatSync, openSync, readSync } from "node:fs";

const GROUP_AND_OTHERS = 0o077;

/**
 * Looks at the file that is open, so that nobody can put another in its place in between.
 *
 * @throws Error that says why, with nothing of the contents in it
 */
export function readSecretFile(path: string, sizeBytesMax: number): Buffer {
  // A FIFO would be waited for.
  const file = openSync(path, constants.O_RDONLY | (constants.O_NONBLOCK ?? 0));
  try {
    const { mode, size } = fstatSync(file);
    if ((mode & constants.S_IFMT) !== constants.S_IFREG) throw new Error("it is no plain file");
    if (process.platform !== "win32" && (mode & GROUP_AND_OTHERS) !== 0) {
      const found = (mode & 0o777).toString(8).padStart(4, "0");
      throw new Error(`others than its owner can use it (mode ${found}); run chmod 600 on it`);
    }
    if (size > sizeBytesMax) throw new Error(`it has more than ${sizeBytesMax} bytes`);
    const buffer = Buffer.alloc(sizeBytesMax);
    return buffer.subarray(0, readSync(file, buffer, 0, buffer.length, 0));
  } finally {
    closeSync(file);
  }
}
