// One run of tuf-js over a device's folder: refresh, find a target, download it and print its bytes in hexadecimal.
// Arguments: the folder of tuf-js, metadata folder, metadata URL, targets folder, targets URL, target path.
// Prints `none` when no role has the target. A refusal prints its name on standard error and ends with 1.
"use strict";

const fs = require("fs");
const [library, metadataDir, metadataBaseUrl, targetDir, targetBaseUrl, path] = process.argv.slice(2);
const { Updater } = require(library);

async function main() {
  const config = { fetchRetries: 0, fetchRetry: 0, fetchTimeout: 20000 };
  const updater = new Updater({ metadataDir, metadataBaseUrl, targetDir, targetBaseUrl, config });
  await updater.refresh();
  const info = await updater.getTargetInfo(path);
  if (!info) {
    return "none";
  }
  return fs.readFileSync(await updater.downloadTarget(info)).toString("hex");
}

main().then(
  (found) => process.stdout.write(found),
  (error) => {
    process.stderr.write(`${error.constructor.name}: ${error.message}`);
    process.exitCode = 1;
  },
);
