/**
 * What is fuzzed: a parser that sees bytes from outside, and what has to hold whatever they are.
 *
 * Each takes bytes, also those that read text, so that one kind of mutation and one form of stored case
 * serve all. It either refuses them with an error that it documents, or accepts them; what it accepted
 * has to come back when it is written and read again.
 */
import fc from "fast-check";
import { KvError } from "#shared/errors.ts";
import { ConfigError } from "#shared/runtime/config.ts";

export type FuzzTarget = {
  readonly name: string;
  /** Valid inputs, to be mutated; others for each seed. */
  readonly samples: (seed: number) => readonly Uint8Array[];
  /** What is put into inputs: words that mean something to the parser. */
  readonly words?: readonly (string | Uint8Array)[];
  /** Makes checksums right again after a mutation, which would hide the rest from the parser. */
  readonly reseal?: (bytes: Uint8Array) => Uint8Array;
  /** Whether `check` waits. */
  readonly isAsync?: true;
  /**
   * True when the input was accepted.
   *
   * @throws when the property does not hold: any error that is not documented, or a broken round trip
   */
  readonly check: (input: Uint8Array) => boolean | Promise<boolean>;
};

/** A parser that never accepts, or never refuses, was not reached by what it is given. */
export type Outcomes = { accepted: number; refused: number; slowestMs: number };

/** Thrown by `check` when a property does not hold. */
export class Broken extends Error {
  constructor(what: string, options?: ErrorOptions) {
    super(what, options);
    this.name = "Broken";
  }
}

export function holds(condition: boolean, what: string): asserts condition {
  if (!condition) throw new Broken(what);
}

type Documented = (error: unknown) => boolean;

/** A KvError with one of these codes. */
export const kvError =
  (...codes: readonly KvError["code"][]): Documented =>
  (error) =>
    error instanceof KvError && codes.includes(error.code);
export const rangeError: Documented = (error) => error instanceof RangeError;
export const configError: Documented = (error) => error instanceof ConfigError;
export const noError: Documented = () => false;

/** The value, or undefined when the parser refused as it says it does. */
export function accepted<T>(documented: Documented, parse: () => T): { value: T } | undefined {
  try {
    return { value: parse() };
  } catch (error) {
    if (documented(error)) return undefined;
    throw new Broken(`an error that is not documented: ${String(error)}`, { cause: error });
  }
}

/** Samples of an arbitrary, in the form of bytes. */
export function samplesOf<T>(
  arbitrary: fc.Arbitrary<T>,
  encode: (value: T) => Uint8Array,
  count = 100,
): FuzzTarget["samples"] {
  return (seed) => fc.sample(arbitrary, { seed, numRuns: count }).map((value) => encode(value));
}

/** Text as bytes, one for each character, as HTTP has it. */
export const latin1Bytes = (text: string): Uint8Array => Buffer.from(text, "latin1");
export const latin1Text = (bytes: Uint8Array): string => Buffer.from(bytes).toString("latin1");
/** Text as JSON, TOML and settings have it; what is no UTF-8 becomes the replacement character. */
export const utf8Text = (bytes: Uint8Array): string => Buffer.from(bytes).toString("utf8");

export const textSamples =
  (...texts: readonly string[]): FuzzTarget["samples"] =>
  () =>
    texts.map((text) => Buffer.from(text, "utf8"));
