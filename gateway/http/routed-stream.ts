/**
 * Streams that a route of Hono answers with, told to the listener: it knows only the Fetch response, and a stream is
 * to hear that the server stops, also one that begins when that has been said.
 */
import type { Context } from "hono";
import type { BodyStream } from "./exchange.ts";

/** By what the listener knows the answer by. */
const notes = new WeakMap<object, BodyStream | "stopping">();

type NodeBindings = { readonly outgoing?: object };

/** Does nothing for a request without a socket, as in `app.request(...)`. */
export function noteStream(c: Context, stream: BodyStream): void {
  const { outgoing } = (c.env ?? {}) as NodeBindings;
  if (outgoing === undefined) return;
  if (notes.get(outgoing) === "stopping") stream.stop();
  else notes.set(outgoing, stream);
}

/** The server stops. */
export function stopNotedStream(outgoing: object): void {
  const noted = notes.get(outgoing);
  notes.set(outgoing, "stopping");
  if (noted !== "stopping") noted?.stop();
}
