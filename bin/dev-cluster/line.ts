/** One line from a socket, bounded in size and time. */
import type { Socket } from "node:net";

const NEWLINE = 0x0a;

/** @throws Error when the other side ends before, says too much, or takes too long */
export function readLine(socket: Socket, sizeBytesMax: number, timeoutMs: number): Promise<string> {
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    let size = 0;
    const timer = setTimeout(
      () => finish(new Error(`no answer within ${timeoutMs} ms`)),
      timeoutMs,
    );
    const finish = (result: string | Error): void => {
      clearTimeout(timer);
      socket.off("data", onData);
      socket.off("close", onClose);
      socket.off("error", finish);
      if (typeof result === "string") resolve(result);
      else reject(result);
    };
    const onData = (chunk: Buffer): void => {
      chunks.push(chunk);
      size += chunk.length;
      if (size > sizeBytesMax) finish(new Error(`a line is longer than ${sizeBytesMax} bytes`));
      else if (chunk.includes(NEWLINE)) {
        const text = Buffer.concat(chunks).toString();
        finish(text.slice(0, text.indexOf("\n")));
      }
    };
    const onClose = (): void => finish(new Error("the connection ended without a line"));
    socket.on("data", onData);
    socket.on("close", onClose);
    socket.on("error", finish);
  });
}
