/** The ten lines of the README; `npm start -- dev` prints the environment they need. */

import { Tacenda } from "@tacenda/sdk";

const tacenda = new Tacenda(); // TACENDA_URL, TACENDA_TOKEN, TACENDA_PROJECT
const store = tacenda.getStore(process.env.TACENDA_STORE ?? "dev"); // TACENDA_SECRET
await store.verify();

const { version } = await store.setValue("github:42", "ghp_example");
console.log(`version ${version}:`, await store.getValue("github:42"));
