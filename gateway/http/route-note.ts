/**
 * Which route answers a request, told from within the app to the listener, which counts.
 *
 * Key-value requests do not come by here: the listener sends them to their handlers itself.
 */
import type { Context } from "hono";

/** By what the listener knows the answer by. */
const notes = new WeakMap<object, string>();

type NodeBindings = { readonly outgoing?: object };

/** The template of a route, from Hono's way of writing its path. */
export const templateOf = (path: string): string => path.replaceAll(/:(\w+)/g, "{$1}");

/** Does nothing for a request without a socket, as in `app.request(...)`. */
export function noteRoute(c: Context, template: string): void {
  const { outgoing } = (c.env ?? {}) as NodeBindings;
  if (outgoing !== undefined) notes.set(outgoing, template);
}

/** Undefined when no route has taken the request. */
export const notedRoute = (outgoing: object): string | undefined => notes.get(outgoing);
