/** The launcher around any script: `node launch-role.js SCRIPT [ARGUMENT…]`. */
import { launch } from "../../src/cli/launcher.js";

launch(process.argv.slice(2));
