/**
 * Looks over a body before it is parsed as JSON, whose cost and memory are not those of its bytes: eight
 * MiB of brackets or of short names keep `JSON.parse` busy for two seconds, which nobody else gets
 * served in. What is said by strings costs little, so everything outside of strings is counted; it is
 * little in a body of the form that is asked for.
 *
 * Says nothing of a body that is no JSON; the parser will.
 */

export type JsonLimits = {
  /** Objects and lists inside one another. */
  readonly depthMax: number;
  /** Members and elements in all objects and lists together. */
  readonly elementsMax: number;
};

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const COMMA = 0x2c;
const COLON = 0x3a;
const LIST = 0x5b;
const LIST_END = 0x5d;
const OBJECT = 0x7b;
const OBJECT_END = 0x7d;

/** Which limit the body exceeds; undefined when it may be parsed. */
export function exceededLimit(body: Buffer, limits: JsonLimits): keyof JsonLimits | undefined {
  const { depthMax, elementsMax } = limits;
  let depth = 0;
  let elements = 0;
  for (let at = 0; at < body.length; at++) {
    switch (body[at]) {
      case QUOTE:
        at = endOfString(body, at + 1);
        break;
      case LIST:
      case OBJECT:
        depth++;
        elements++;
        break;
      case LIST_END:
      case OBJECT_END:
        depth--;
        break;
      case COMMA:
      case COLON:
        elements++;
        break;
    }
    if (depth > depthMax) return "depthMax";
    if (elements > elementsMax) return "elementsMax";
  }
  return undefined;
}

/** Where the quote is that ends the string which begins at `start`. */
function endOfString(body: Buffer, start: number): number {
  for (let from = start; ; ) {
    const quote = body.indexOf(QUOTE, from);
    if (quote < 0) return body.length;
    let before = quote;
    while (before > from && body[before - 1] === BACKSLASH) before--;
    if ((quote - before) % 2 === 0) return quote;
    from = quote + 1;
  }
}
