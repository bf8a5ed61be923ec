"""The price book: what models cost and can do, as the providers say. Written by tools/refresh_book.py, read by people.

A line that begins with @ names a provider, the page its prices are published on, and the day they were checked.
Every other line is of models that are alike, its fields parted by |

    names
    window and maximal output, tokens
    abilities
    USD per million tokens: input, output, cached input, cache write
    the same four in the provider's batch API
    `tokens: the four` where a prompt of more input tokens than that is billed altogether at other prices
    checked by: `both` sources of the tool agree, or the one that still lists it
    what a price alone does not say

`-` stands for what is not known or not offered.
"""

BOOK = """
@ openai https://developers.openai.com/api/docs/pricing 2026-11-22
chat-latest | 400000 128000 | json_schema pdf reasoning tools vision | 5 30 0.5 - | - | - | both | -
chatgpt-4o-latest | 128000 16384 | vision | 5 15 - - | - | - | genai-prices | -
computer-use-preview computer-use-preview-2025-03-11 | 8192 1024 | pdf reasoning tools vision | 3 12 - - | - | - | both | -
gpt-3.5-turbo gpt-3.5-turbo-0125 | 16385 4096 | tools | 0.5 1.5 - - | 0.25 0.75 - - | - | both | -
gpt-3.5-turbo-1106 | 16385 4096 | tools | 1 2 - - | - | - | both | -
gpt-3.5-turbo-16k | 16385 4096 | - | 3 4 - - | - | - | both | -
gpt-4 gpt-4-0613 | 8192 4096 | tools | 30 60 - - | 15 30 - - | - | both | -
gpt-4-1106-preview | 128000 4096 | tools | 10 30 - - | 5 15 - - | - | both | -
gpt-4-turbo gpt-4-turbo-2024-04-09 | 128000 4096 | pdf tools vision | 10 30 - - | 5 15 - - | - | both | -
gpt-4.1 gpt-4.1-2025-04-14 | 1047576 32768 | json_schema pdf tools vision | 2 8 0.5 - | 1 4 0.5 - | - | both | -
gpt-4.1-mini gpt-4.1-mini-2025-04-14 | 1047576 32768 | json_schema pdf tools vision | 0.4 1.6 0.1 - | 0.2 0.8 0.1 - | - | both | -
gpt-4.1-nano gpt-4.1-nano-2025-04-14 | 1047576 32768 | json_schema pdf tools vision | 0.1 0.4 0.025 - | 0.05 0.2 0.025 - | - | both | -
gpt-4o gpt-4o-2024-08-06 gpt-4o-2024-11-20 | 128000 16384 | json_schema pdf tools vision | 2.5 10 1.25 - | 1.25 5 1.25 - | - | both | -
gpt-4o-2024-05-13 | 128000 4096 | pdf tools vision | 5 15 - - | 2.5 7.5 - - | - | both | -
gpt-4o-mini gpt-4o-mini-2024-07-18 | 128000 16384 | json_schema pdf tools vision | 0.15 0.6 0.075 - | 0.075 0.3 0.075 - | - | both | -
gpt-5 gpt-5-2025-08-07 gpt-5-codex gpt-5.1 gpt-5.1-2025-11-13 gpt-5.1-codex gpt-5.1-codex-max | 400000 128000 | json_schema pdf reasoning tools vision | 1.25 10 0.125 - | 0.625 5 0.0625 - | - | both | -
gpt-5-chat | 400000 16384 | json_schema pdf reasoning vision | 1.25 10 0.125 - | 0.625 5 0.0625 - | - | both | -
gpt-5-chat-latest gpt-5.1-chat-latest | 400000 16384 | json_schema pdf reasoning tools vision | 1.25 10 0.125 - | 0.625 5 0.0625 - | - | both | -
gpt-5-mini gpt-5-mini-2025-08-07 | 400000 128000 | json_schema pdf reasoning tools vision | 0.25 2 0.025 - | 0.125 1 0.0125 - | - | both | -
gpt-5-nano gpt-5-nano-2025-08-07 | 400000 128000 | json_schema pdf reasoning tools vision | 0.05 0.4 0.005 - | 0.025 0.2 0.0025 - | - | both | -
gpt-5-pro gpt-5-pro-2025-10-06 | 400000 272000 | json_schema pdf reasoning tools vision | 15 120 - - | 7.5 60 - - | - | both | -
gpt-5.1-codex-mini | 400000 128000 | json_schema pdf reasoning tools vision | 0.25 2 0.025 - | - | - | both | -
gpt-5.2 gpt-5.2-2025-12-11 gpt-5.2-codex | 400000 128000 | json_schema pdf reasoning tools vision | 1.75 14 0.175 - | 0.875 7 0.0875 - | - | both | -
gpt-5.2-chat-latest | 400000 16384 | json_schema pdf reasoning tools vision | 1.75 14 0.175 - | 0.875 7 0.0875 - | - | both | -
gpt-5.2-pro gpt-5.2-pro-2025-12-11 | 400000 128000 | json_schema pdf reasoning tools vision | 21 168 - - | 10.5 84 - - | - | both | -
gpt-5.3-chat-latest | 128000 16384 | json_schema pdf reasoning tools vision | 1.75 14 0.175 - | - | - | both | -
gpt-5.3-codex | 400000 128000 | json_schema pdf reasoning tools vision | 1.75 14 0.175 - | - | - | both | -
gpt-5.4 gpt-5.4-2026-03-05 | 1050000 128000 | json_schema pdf reasoning tools vision | 2.5 15 0.25 - | 1.25 7.5 0.13 - | 272000: 5 22.5 0.5 - | both | -
gpt-5.4-mini gpt-5.4-mini-2026-03-17 | 400000 128000 | json_schema pdf reasoning tools vision | 0.75 4.5 0.075 - | 0.375 2.25 0.0375 - | - | both | -
gpt-5.4-nano gpt-5.4-nano-2026-03-17 | 400000 128000 | json_schema pdf reasoning tools vision | 0.2 1.25 0.02 - | 0.1 0.625 0.01 - | - | both | -
gpt-5.4-pro gpt-5.4-pro-2026-03-05 gpt-5.5-pro gpt-5.5-pro-2026-04-23 | 1050000 128000 | pdf reasoning tools vision | 30 180 - - | 15 90 - - | 272000: 60 270 - - | both | -
gpt-5.5 gpt-5.5-2026-04-23 | 1050000 128000 | json_schema pdf reasoning tools vision | 5 30 0.5 - | 2.5 15 0.25 - | 272000: 10 45 1 - | both | -
gpt-5.5-cyber | - - | reasoning | 12.5 75 1.25 - | - | - | both | -
gpt-5.6 gpt-5.6-sol | 1050000 128000 | json_schema pdf reasoning tools vision | 4 20 0.4 5 | 2 10 0.2 2.5 | 272000: 8 30 0.8 10 | both | -
gpt-5.6-cyber | 400000 128000 | json_schema pdf reasoning tools vision | 12.5 75 1.25 15.625 | - | - | both | -
gpt-5.6-luna | 1050000 128000 | json_schema pdf reasoning tools vision | 0.2 1.2 0.02 0.25 | 0.1 0.6 0.01 0.125 | 272000: 0.4 1.8 0.04 0.5 | both | -
gpt-5.6-terra | 1050000 128000 | json_schema pdf reasoning tools vision | 2 12 0.2 2.5 | 1 6 0.1 1.25 | 272000: 4 18 0.4 5 | both | -
gpt-6-astra | 1050000 128000 | json_schema pdf reasoning tools vision | 10 50 1 12.5 | 5 25 0.5 6.25 | 272000: 20 75 2 25 | both | -
gpt-6-luna | 1050000 128000 | json_schema pdf reasoning tools vision | 0.1 0.5 0.01 0.125 | 0.05 0.25 0.005 0.0625 | 272000: 0.2 0.75 0.02 0.25 | both | -
gpt-6-rosalind | 922000 128000 | json_schema pdf reasoning tools vision | 15 75 1.5 18.75 | - | 272000: 30 112.5 3 37.5 | both | -
gpt-6-sol | 1050000 128000 | json_schema pdf reasoning tools vision | 2 10 0.2 2.5 | 1 5 0.1 1.25 | 272000: 4 15 0.4 5 | both | -
gpt-6.1-sol | 1050000 128000 | json_schema pdf reasoning tools vision | 2 10 0.1 2.5 | 1 5 0.05 1.25 | 272000: 4 15 0.2 5 | both | -
gpt-6.1-terra | 1050000 128000 | json_schema pdf reasoning tools vision | 1 5 0.05 1.25 | 0.5 2.5 0.025 0.625 | 272000: 2 7.5 0.1 2.5 | both | -
gpt-rosalind-discovery | - - | - | 5 25 0.5 - | - | - | both | -
o1 o1-2024-12-17 | 200000 100000 | json_schema pdf reasoning tools vision | 15 60 7.5 - | 7.5 30 7.5 - | - | both | -
o1-mini o1-mini-2024-09-12 | 128000 65536 | reasoning | 1.1 4.4 0.55 - | - | - | genai-prices | -
o1-preview o1-preview-2024-09-12 | 128000 32768 | reasoning | 15 60 7.5 - | - | - | genai-prices | -
o1-pro o1-pro-2025-03-19 | 200000 100000 | json_schema pdf reasoning tools vision | 150 600 - - | 75 300 - - | - | both | -
o3 o3-2025-04-16 | 200000 100000 | json_schema pdf reasoning tools vision | 2 8 0.5 - | 1 4 0.5 - | - | both | -
o3-mini o3-mini-2025-01-31 | 200000 100000 | json_schema reasoning tools | 1.1 4.4 0.55 - | 0.55 2.2 0.55 - | - | both | -
o3-pro o3-pro-2025-06-10 | 200000 100000 | json_schema pdf reasoning tools vision | 20 80 - - | 10 40 - - | - | both | -
o4-mini o4-mini-2025-04-16 | 200000 100000 | json_schema pdf reasoning tools vision | 1.1 4.4 0.275 - | 0.55 2.2 0.275 - | - | both | -
text-embedding-3-large | 8192 - | embeddings | 0.13 - - - | - | - | both | -
text-embedding-3-small | 8192 - | embeddings | 0.02 - - - | - | - | both | -
text-embedding-ada-002 text-embedding-ada-002-v2 | 8192 - | embeddings | 0.1 - - - | - | - | both | -
@ anthropic https://www.anthropic.com/pricing#api 2026-11-22
claude-3-5-haiku claude-3-5-haiku-20241022 claude-3-5-haiku-latest | 200000 8192 | pdf tools vision | 0.8 4 0.08 1 | - | - | genai-prices | -
claude-3-5-sonnet claude-3-5-sonnet-20240620 claude-3-5-sonnet-20241022 claude-3-5-sonnet-latest | 200000 8192 | pdf tools vision | 3 15 0.3 3.75 | - | - | genai-prices | -
claude-3-7-sonnet claude-3-7-sonnet-20250219 claude-3-7-sonnet-latest claude-sonnet-4 claude-sonnet-4-0 claude-sonnet-4-20250514 | 200000 64000 | pdf reasoning tools vision | 3 15 0.3 3.75 | - | - | genai-prices | -
claude-3-haiku claude-3-haiku-20240307 | 200000 4096 | tools vision | 0.25 1.25 0.03 0.3 | - | - | genai-prices | -
claude-3-opus claude-3-opus-20240229 claude-3-opus-latest | 200000 4096 | tools vision | 15 75 1.5 18.75 | - | - | genai-prices | -
claude-fable-5 | 1000000 128000 | json_schema pdf reasoning tools vision | 10 50 1 12.5 | 5 25 0.5 6.25 | - | both | -
claude-fable-5-1 | 1000000 128000 | json_schema pdf reasoning tools vision | 10 50 0.25 12.5 | 5 25 0.125 6.25 | - | both | -
claude-haiku-4-5 claude-haiku-4-5-20251001 | 200000 64000 | json_schema pdf reasoning tools vision | 1 5 0.1 1.25 | 0.5 2.5 0.05 0.625 | - | both | -
claude-haiku-5-5 | 1000000 128000 | json_schema pdf reasoning tools vision | 0.1 0.5 0.01 0.125 | 0.05 0.25 0.005 0.0625 | 100000: 0.5 2.5 0.05 0.625 | both | -
claude-opus-4 claude-opus-4-0 claude-opus-4-1 claude-opus-4-1-20250805 claude-opus-4-20250514 | 200000 32000 | pdf reasoning tools vision | 15 75 1.5 18.75 | - | - | genai-prices | -
claude-opus-4-5 claude-opus-4-5-20251101 | 200000 64000 | json_schema pdf reasoning tools vision | 5 25 0.5 6.25 | 2.5 12.5 0.25 3.125 | - | both | -
claude-opus-4-6 claude-opus-4-6-20260205 claude-opus-4-7 claude-opus-4-7-20260416 claude-opus-4-8 claude-opus-5 | 1000000 128000 | json_schema pdf reasoning tools vision | 5 25 0.5 6.25 | 2.5 12.5 0.25 3.125 | - | both | -
claude-opus-5-5 | 1000000 128000 | json_schema pdf reasoning tools vision | 4 20 0.2 5 | 2 10 0.1 2.5 | - | both | -
claude-sonnet-4-5 claude-sonnet-4-5-20250929 | 200000 64000 | json_schema pdf reasoning tools vision | 3 15 0.3 3.75 | 1.5 7.5 0.15 1.875 | - | both | -
claude-sonnet-4-6 | 1000000 128000 | json_schema pdf reasoning tools vision | 3 15 0.3 3.75 | 1.5 7.5 0.15 1.875 | - | both | -
claude-sonnet-5 | 1000000 128000 | json_schema pdf reasoning tools vision | 2 10 0.2 2.5 | 1 5 0.1 1.25 | - | both | -
claude-sonnet-5-5 | 1000000 128000 | json_schema pdf reasoning tools vision | 2 10 0.1 2.5 | 1 5 0.05 1.25 | - | both | -
@ google https://ai.google.dev/gemini-api/docs/pricing 2026-11-22
gemini-1.5-flash gemini-1.5-flash-002 | 1000000 8192 | audio json_schema pdf tools vision | 0.075 0.3 0.01875 - | - | 128000: 0.15 0.6 0.0375 - | genai-prices | -
gemini-1.5-pro gemini-1.5-pro-002 | 1000000 8192 | audio json_schema pdf tools vision | 1.25 5 - - | - | 128000: 2.5 10 - - | genai-prices | -
gemini-2.0-flash gemini-2.0-flash-001 | 1000000 8192 | audio json_schema pdf tools vision | 0.1 0.4 0.025 - | - | - | genai-prices | audio input costs more than text
gemini-2.0-flash-lite gemini-2.0-flash-lite-001 | 1000000 8192 | audio json_schema pdf tools vision | 0.075 0.3 - - | - | - | genai-prices | -
gemini-2.5-flash | 1048576 65536 | audio json_schema pdf reasoning tools vision | 0.3 2.5 0.03 - | 0.15 1.25 0.03 - | - | both | audio input costs more than text
gemini-2.5-flash-lite | 1048576 65536 | audio json_schema pdf reasoning tools vision | 0.1 0.4 0.01 - | 0.05 0.2 0.01 - | - | both | audio input costs more than text
gemini-2.5-pro | 1048576 65536 | audio json_schema pdf reasoning tools vision | 1.25 10 0.125 - | 0.625 5 0.125 - | 200000: 2.5 15 0.25 - | both | -
gemini-3-flash-preview | 1048576 65536 | audio json_schema pdf reasoning tools vision | 0.5 3 0.05 - | 0.25 1.5 0.05 - | - | both | audio input costs more than text
gemini-3.1-flash-lite gemini-3.1-flash-lite-preview | 1048576 65536 | audio json_schema pdf reasoning tools vision | 0.25 1.5 0.025 - | 0.125 0.75 0.0125 - | - | both | audio input costs more than text
gemini-3.1-pro-preview gemini-3.1-pro-preview-customtools gemini-pro-latest | 1048576 65536 | audio json_schema pdf reasoning tools vision | 2 12 0.2 - | 1 6 0.2 - | 200000: 4 18 0.4 - | both | -
gemini-3.5-flash | 1048576 65536 | audio json_schema pdf reasoning tools vision | 1.5 9 0.15 - | - | - | both | -
gemini-3.5-flash-lite gemini-flash-lite-latest | 1048576 65536 | audio json_schema pdf reasoning tools vision | 0.3 2.5 0.03 - | 0.15 1.25 0.02 - | - | both | -
gemini-3.6-flash gemini-3.8-flash gemini-flash-latest | 1048576 65536 | audio json_schema pdf reasoning tools vision | 0.75 3.75 0.075 - | 0.375 1.875 0.0375 - | - | both | -
gemini-3.7-flash | 1048576 65536 | audio json_schema pdf reasoning tools vision | 0.75 3.75 0.075 - | - | - | both | -
gemini-4-argon | 1048576 1048576 | audio json_schema pdf reasoning tools vision | 2 10 0.1 - | 1 5 0.05 - | - | both | -
gemini-embedding-001 | 2048 - | embeddings | 0.15 - - - | - | - | both | -
gemini-embedding-2 gemini-embedding-2-preview | 8192 - | audio embeddings vision | 0.2 - - - | - | - | both | audio input costs more than text
@ mistral https://mistral.ai/pricing/api 2026-11-22
codestral-2508 | 256000 128000 | json_schema tools | 0.3 0.9 0.03 - | 0.15 0.45 0.015 - | - | both | -
codestral-embed codestral-embed-2505 | 8192 - | embeddings | 0.15 - 0.015 - | - | - | both | -
deepseek-v4-1-flash-1017 | 1048576 131072 | json_schema reasoning tools | 0.3 1.2 0.007 - | - | - | both | -
ministral-14b-2512 | 262144 262144 | json_schema tools vision | 0.2 0.2 0.02 - | 0.1 0.1 0.01 - | - | both | -
ministral-3b-2512 | 131072 131072 | json_schema tools vision | 0.1 0.1 0.01 - | 0.05 0.05 0.005 - | - | both | -
ministral-8b-2512 ministral-8b-latest | 262144 262144 | json_schema tools vision | 0.15 0.15 0.015 - | 0.075 0.075 0.0075 - | - | both | -
mistral-embed mistral-embed-2312 | 8192 - | embeddings | 0.1 0.1 - - | 0.05 0.05 - - | - | both | -
mistral-large-2512 | 262144 262144 | json_schema tools vision | 0.5 1.5 0.05 - | 0.25 0.75 0.025 - | - | both | -
mistral-medium-2604 mistral-medium-3 mistral-medium-3-5 mistral-medium-3.5 mistral-medium-latest | 262144 262144 | json_schema reasoning tools vision | 1.5 7.5 0.15 - | 0.75 3.75 0.075 - | - | both | -
mistral-small-2603 mistral-small-latest | 262144 262144 | json_schema reasoning tools vision | 0.15 0.6 0.015 - | 0.075 0.3 0.0075 - | - | both | -
zai-glm-5-3 | 1048576 131072 | json_schema reasoning tools | 1.4 4.4 0.14 - | - | - | both | -
zai-glm-5-3-flash | 1048576 131072 | json_schema reasoning tools vision | 0.15 0.5 0.03 - | - | - | both | -
@ deepseek https://api-docs.deepseek.com/quick_start/pricing 2026-11-22
deepseek-flash deepseek-v4-flash deepseek-v4-flash-vision-exp | 1000000 393216 | json_schema reasoning tools vision | 0.3 1.2 0.006 - | - | - | both | peak hours, less at other hours
deepseek-v4-pro | 1000000 393216 | json_schema reasoning tools | 1.32 3.96 0.044 - | - | - | both | peak hours, less at other hours
@ groq https://console.groq.com/docs/models 2026-11-22
llama-3.1-8b-instant | 131072 131072 | tools | 0.05 0.08 - - | - | - | genai-prices | -
llama-3.3-70b-versatile | 131072 32768 | tools | 0.59 0.79 - - | - | - | genai-prices | -
llama-guard-3-8b | 8192 8192 | - | 0.2 0.2 - - | - | - | both | -
openai/gpt-oss-120b | 131072 65536 | json_schema reasoning tools | 0.15 0.6 0.075 - | 0.075 0.3 0.075 - | - | both | -
openai/gpt-oss-20b | 131072 65536 | json_schema reasoning tools | 0.075 0.3 0.0375 - | 0.0375 0.15 0.0375 - | - | both | -
qwen/qwen3.8-27b | 131072 16384 | json_schema reasoning tools vision | 0.8 4 - - | - | - | both | -
@ xai https://docs.x.ai/docs/models 2026-11-22
grok-4.20 grok-4.20-0309-reasoning grok-4.20-multi-agent-beta-0309 grok-4.3 grok-4.3-latest | 1000000 1000000 | json_schema reasoning tools vision | 1.25 2.5 0.2 - | 1 2 0.16 - | 199999: 2.5 5 0.4 - | both | -
grok-4.20-0309-non-reasoning | 1000000 1000000 | json_schema tools vision | 1.25 2.5 0.2 - | 1 2 0.16 - | 199999: 2.5 5 0.4 - | both | -
grok-4.20-multi-agent grok-4.20-multi-agent-0309 grok-4.20-multi-agent-beta-latest grok-4.20-multi-agent-latest | 1000000 1000000 | json_schema reasoning vision | 1.25 2.5 0.2 - | 1 2 0.16 - | 199999: 2.5 5 0.4 - | both | -
grok-4.5 grok-4.5-latest | 500000 500000 | json_schema reasoning tools vision | 2 6 0.3 - | - | 199999: 4 12 0.6 - | both | -
grok-4.6 grok-4.7 | 500000 500000 | json_schema reasoning tools vision | 2 6 0.5 - | - | 199999: 4 12 1 - | both | -
grok-build-0.1 | 256000 256000 | json_schema reasoning tools vision | 1 2 0.2 - | - | 199999: 2 4 0.4 - | both | -
"""
