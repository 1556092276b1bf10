/**
 * Many clients of one watch, in a thread of their own: so that taking what they are sent does not hold up the writer
 * that is measured with them. Some are read in full; of the others it is seen that they get the last event.
 */
import { connect, type Socket } from "node:net";
import { parentPort, workerData } from "node:worker_threads";
import type {
  ReceivedEvent,
  WatchClientsData,
  WatchClientsReport,
  WatchClientsTask,
} from "./watch.ts";

const OPENED_AT_ONCE = 50;
const SENT_AT = /"value":"(\d+\.\d+) /g;
/** The last event of the measurement. */
const END = '"value":"END ';

const { port, count, paths, readInFull } = workerData as WatchClientsData;
const received: ReceivedEvent[] = [];
let bytes = 0;
let finished = 0;
let failed = 0;

const nowMs = (): number => performance.timeOrigin + performance.now();

function open(place: number): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connect(port, "127.0.0.1");
    const isRead = place < readInFull;
    let rest = "";
    let isOpen = false;
    socket.on("error", reject);
    socket.on("close", () => {
      failed++;
      reject(new Error("the server closed a watch"));
    });
    const path = paths[place % paths.length]!;
    socket.write(
      `GET ${path}${path.includes("#") ? place : ""} HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/event-stream\r\n\r\n`.replace(
        "#",
        "",
      ),
    );
    socket.on("data", (chunk) => {
      bytes += chunk.length;
      if (isOpen && !isRead) {
        if (chunk.includes(END)) finished++;
        return;
      }
      const receivedMs = nowMs();
      const text = rest + chunk.toString("latin1");
      if (!isOpen && text.includes("event: progress")) {
        isOpen = true;
        resolve(socket);
      }
      if (text.includes(END)) finished++;
      const end = text.lastIndexOf("\n\n") + 1;
      for (const [, sent] of text.slice(0, end).matchAll(SENT_AT)) {
        received.push({ sentAtMs: Number(sent), tookMs: receivedMs - Number(sent) });
      }
      rest = text.slice(end);
    });
  });
}

async function run(): Promise<void> {
  for (let place = 0; place < count; place += OPENED_AT_ONCE) {
    const places = Array.from({ length: Math.min(OPENED_AT_ONCE, count - place) }, (_, i) => i);
    await Promise.all(places.map((i) => open(place + i)));
  }
  bytes = 0;
  const answer = (report: WatchClientsReport): void => parentPort!.postMessage(report);
  parentPort!.on("message", (task: WatchClientsTask) => {
    if (task === "report") answer({ received, bytes, finished, failed });
  });
  answer({ received: [], bytes: 0, finished: 0, failed });
}

await run();
