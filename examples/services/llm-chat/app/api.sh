# Plays a chat model: it says back what it heard last.

case "$method $path" in
    "GET /health")
        answer '200 OK' '{"status": "ok"}'
        ;;
    "GET /v1/models")
        answer '200 OK' "{\"object\": \"list\", \"data\": [{\"id\": \"$MODEL\", \"object\": \"model\"}]}"
        ;;
    "POST /v1/chat/completions")
        content=$(text content)
        [ -n "$content" ] || answer '400 Bad Request' '{"error": {"message": "messages are needed"}}'
        answer '200 OK' "{\"id\": \"chatcmpl-$$\", \"object\": \"chat.completion\", \"created\": $(date +%s), \"model\": \"$MODEL\",
 \"choices\": [{\"index\": 0, \"message\": {\"role\": \"assistant\", \"content\": \"You said: $content\"}, \"finish_reason\": \"stop\"}],
 \"usage\": {\"completion_tokens\": $(echo "$content" | wc -w)}}"
        ;;
esac
