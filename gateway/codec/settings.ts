/** Settings of compression and encryption of values; the same in every program that serves HTTP. */
export const codecSettings = {} as const;
