/** Settings of the HTTP listener, TLS and CORS among them; the same in every program that serves HTTP. */
export const httpSettings = {} as const;
