/** Entry of the process: bin/tacenda-server.js imports it. */

import { runProgram } from "./cli/program.js";

process.exitCode = await runProgram(process.argv, process.env);
