/**
 * Lets a process of the simulator run with few vshards, so that a run costs milliseconds per simulated
 * second. The product has one constant for their number and no way to change it; here the text of the
 * module that holds it is changed as it is loaded. To be called before anything of the product is imported.
 */
import { registerHooks } from "node:module";

const MODULE = "/shared/ids.ts";
const CONSTANT = "export const VSHARD_COUNT = 256;";

export function useFewVshards(count: number): void {
  registerHooks({
    load: (url, context, nextLoad) => {
      const loaded = nextLoad(url, context);
      if (!url.endsWith(MODULE)) return loaded;
      const text = loaded.source?.toString() ?? "";
      if (!text.includes(CONSTANT)) throw new Error(`${MODULE} does not contain: ${CONSTANT}`);
      return { ...loaded, source: text.replace(CONSTANT, CONSTANT.replace("256", String(count))) };
    },
  });
}
