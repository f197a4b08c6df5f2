# Plays an image model: the prompt decides the colours.

paint() {
    id=$(printf '%s' "$1" | sha256sum | cut -c1-18)
    sky=$(echo "$id" | cut -c1-6) sun=$(echo "$id" | cut -c7-12) sea=$(echo "$id" | cut -c13-18)
    cat >"/outputs/$id.svg" <<SVG
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 64 64"><rect width="64" height="64" fill="#$sky"/><circle cx="40" cy="28" r="12" fill="#$sun"/><rect y="40" width="64" height="24" fill="#$sea"/></svg>
SVG
}

case "$method $path" in
    "GET /health")
        answer '200 OK' "{\"status\": \"healthy\", \"model\": \"$MODEL\"}"
        ;;
    "GET /v1/models")
        answer '200 OK' "{\"object\": \"list\", \"data\": [{\"id\": \"$MODEL\", \"object\": \"model\"}]}"
        ;;
    "POST /v1/images/generations")
        prompt=$(text prompt)
        [ -n "$prompt" ] || answer '400 Bad Request' '{"error": "a prompt is needed"}'
        paint "$prompt"
        answer '200 OK' "{\"created\": $(date +%s), \"data\": [{\"file\": \"$id.svg\", \"b64_json\": \"$(base64 -w0 "/outputs/$id.svg")\"}]}"
        ;;
    "GET /v1/images")
        answer '200 OK' "{\"data\": [$(ls /outputs | sed 's/.*/"&"/' | paste -sd, -)]}"
        ;;
esac
