// Ready-to-paste settings of common clients.

// Names go into shell lines that people paste: one that is not plainly a name is replaced by a placeholder.
const PLAIN = /^[A-Za-z0-9][A-Za-z0-9._:/@+-]*$/;

/** Settings for the clients that speak `dialects` with the base address `base`: [{name, note, text}]. */
export function settingsFor(base, dialects, models) {
  const model = models.find((name) => PLAIN.test(name)) ?? "MODEL";
  const found = [];
  if (dialects.includes("anthropic_messages")) found.push(claudeCode(base, model), anthropicCurl(base, model));
  if (dialects.includes("openai_chat")) found.push(openaiSdk(base, model), openaiCurl(base, model));
  return found;
}

const claudeCode = (base, model) => ({
  name: "Claude Code",
  note: "The token is a placeholder: the client insists on one, the gateway ignores it.",
  text: `export ANTHROPIC_BASE_URL=${base}\nexport ANTHROPIC_AUTH_TOKEN=-\nclaude --model ${model}`,
});

const anthropicCurl = (base, model) => ({
  name: "curl, Anthropic messages",
  text: `curl -N ${base}/v1/messages \\
  -H 'content-type: application/json' -H 'anthropic-version: 2023-06-01' \\
  -d '{"model": "${model}", "max_tokens": 256, "stream": true,
       "messages": [{"role": "user", "content": "Say hi"}]}'`,
});

const openaiSdk = (base, model) => ({
  name: "OpenAI SDK",
  note: "Python; other languages and tools take the same two values. The key is a placeholder.",
  text: `from openai import OpenAI

client = OpenAI(base_url="${base}/v1", api_key="-")
answer = client.chat.completions.create(
    model="${model}",
    messages=[{"role": "user", "content": "Say hi"}],
)
print(answer.choices[0].message.content)`,
});

const openaiCurl = (base, model) => ({
  name: "curl, OpenAI chat",
  text: `curl -N ${base}/v1/chat/completions \\
  -H 'content-type: application/json' \\
  -d '{"model": "${model}", "stream": true,
       "messages": [{"role": "user", "content": "Say hi"}]}'`,
});
