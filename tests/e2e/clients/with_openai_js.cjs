// openai-js, with nothing set but the environment: `node FILE CELL MODEL PROMPT`.
"use strict";
const OpenAI = require("openai");
const [cell, model, prompt] = process.argv.slice(2);
const weather = { name: "weather", description: "Tell the weather.",
  parameters: { type: "object", properties: { city: { type: "string" } }, required: ["city"] } };

async function main() {
  const client = new OpenAI();
  const messages = [{ role: "user", content: prompt }];
  let [text, input, output] = ["", 0, 0];
  if (cell === "stream") {
    const stream = await client.chat.completions.create(
      { model, messages, stream: true, stream_options: { include_usage: true } });
    for await (const chunk of stream) {
      text += chunk.choices[0]?.delta.content ?? "";
      input += chunk.usage?.prompt_tokens ?? 0;
      output += chunk.usage?.completion_tokens ?? 0;
    }
    return { text, input, output };
  }
  const tools = cell === "tools" ? { tools: [{ type: "function", function: weather }] } : {};
  for (;;) {
    const answer = await client.chat.completions.create({ model, messages, ...tools });
    input += answer.usage.prompt_tokens;
    output += answer.usage.completion_tokens;
    const { message } = answer.choices[0];
    if (!message.tool_calls?.length) return { text: message.content, input, output };
    messages.push(message);
    for (const call of message.tool_calls) {
      const { city } = JSON.parse(call.function.arguments);
      messages.push({ role: "tool", tool_call_id: call.id, content: `4 degrees in ${city}` });
    }
  }
}

main().then((told) => console.log(JSON.stringify(told)), (error) => {
  console.log(String(error));
  process.exitCode = 1;
});
