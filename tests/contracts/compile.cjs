// Compiles the contracts beside this file: `node compile.cjs MODULES OUT`, where MODULES is the node_modules
// folder with solc in it and OUT a folder. Writes OUT/Network.bin, the creation code of the contract that
// makes all the others, as hexadecimal digits.
'use strict';
const fs = require('fs');
const path = require('path');

const [modules, out] = process.argv.slice(2);
const solc = require(path.resolve(modules, 'solc'));
const files = fs.readdirSync(__dirname).filter((name) => name.endsWith('.sol')).sort();
const sources = Object.fromEntries(
  files.map((name) => [name, { content: fs.readFileSync(path.join(__dirname, name), 'utf8') }]),
);
const input = {
  language: 'Solidity',
  sources,
  settings: {
    evmVersion: 'paris',
    optimizer: { enabled: true, runs: 200 },
    outputSelection: { '*': { '*': ['evm.bytecode.object'] } },
  },
};
const compiled = JSON.parse(solc.compile(JSON.stringify(input)));
for (const message of compiled.errors ?? []) console.error(message.formattedMessage);
if ((compiled.errors ?? []).length > 0) process.exit(1);
fs.mkdirSync(out, { recursive: true });
fs.writeFileSync(path.join(out, 'Network.bin'), compiled.contracts['Network.sol'].Network.evm.bytecode.object);
