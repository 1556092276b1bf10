/** Whether a gateway can serve, as it says itself. */

const ANSWER_TIMEOUT_MS = 3_000;
const REASON_LENGTH_MAX = 120;

/** What it waits for, to be read after "waits"; undefined when it is ready. */
export async function gatewayWaitsFor(url: string): Promise<string | undefined> {
  try {
    const signal = AbortSignal.timeout(ANSWER_TIMEOUT_MS);
    const answer = await fetch(`${url}/health/ready`, { signal });
    const text = await answer.text();
    if (answer.status === 200) return undefined;
    return `to be ready (${answer.status} ${detailIn(text).slice(0, REASON_LENGTH_MAX)})`;
  } catch (error) {
    return `to answer (${String(error)})`;
  }
}

function detailIn(text: string): string {
  try {
    const body: unknown = JSON.parse(text);
    if (typeof body === "object" && body !== null && "detail" in body) return String(body.detail);
  } catch {
    // Not JSON: shown as it is.
  }
  return text;
}
