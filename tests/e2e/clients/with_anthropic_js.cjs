// @anthropic-ai/sdk, with nothing set but the environment: `node FILE CELL MODEL PROMPT`.
"use strict";
const Anthropic = require("@anthropic-ai/sdk");
const [cell, model, prompt] = process.argv.slice(2);
const weather = { name: "weather", description: "Tell the weather.",
  input_schema: { type: "object", properties: { city: { type: "string" } }, required: ["city"] } };

async function main() {
  const client = new Anthropic();
  const messages = [{ role: "user", content: prompt }];
  if (cell === "stream") {
    const answer = await client.messages.stream({ model, messages, max_tokens: 99 }).finalMessage();
    return { text: answer.content[0].text, input: answer.usage.input_tokens, output: answer.usage.output_tokens };
  }
  const tools = cell === "tools" ? { tools: [weather] } : {};
  let [input, output] = [0, 0];
  for (;;) {
    const answer = await client.messages.create({ model, messages, max_tokens: 99, ...tools });
    input += answer.usage.input_tokens;
    output += answer.usage.output_tokens;
    const calls = answer.content.filter((block) => block.type === "tool_use");
    if (!calls.length) return { text: answer.content[0].text, input, output };
    messages.push({ role: "assistant", content: answer.content });
    messages.push({ role: "user", content: calls.map((call) => (
      { type: "tool_result", tool_use_id: call.id, content: `4 degrees in ${call.input.city}` })) });
  }
}

main().then((told) => console.log(JSON.stringify(told)), (error) => {
  console.log(String(error));
  process.exitCode = 1;
});
