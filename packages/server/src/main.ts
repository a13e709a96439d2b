/** Entry of the process: bin/tacenda-server.js imports it; spec/http.md § Starting. */

import { runProgram } from "./cli/program.js";

// Not process.exitCode: when Node winds down by itself it gives signals back their deadly default milliseconds before the
// end, and a repeated Ctrl-C would turn an orderly stop into a kill.
process.exit(await runProgram(process.argv, process.env));
