/** Entry for workerd: a request runs the suite, for the desk whose URL is its body. */

import { perform } from "./perform.ts";

export default {
  async fetch(request: Request): Promise<Response> {
    await perform(await request.text());
    return new Response("done");
  },
};
