// Turns TypeScript types into JSON schemas: node slack_schema.mjs FILE TYPE...; writes {TYPE: schema} to standard output.
// Run by pin_slack_schema.py, in the folder where it has installed ts-json-schema-generator.
import { createGenerator } from "ts-json-schema-generator";

const [path, ...types] = process.argv.slice(2);
const generator = createGenerator({ path, type: types[0], additionalProperties: false, encodeRefs: false, skipTypeCheck: true });
process.stdout.write(JSON.stringify(Object.fromEntries(types.map((type) => [type, generator.createSchema(type)]))));
