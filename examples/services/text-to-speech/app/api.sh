# Plays a voice: silence, as long as the words would take to say.

# little_endian BYTES NUMBER: as the WAV header wants its numbers.
little_endian() {
    local n=$2 i=0
    while [ $((i += 1)) -le "$1" ]; do
        printf "\\x$(printf %02x $((n % 256)))"
        n=$((n / 256))
    done
}

wav() {
    local samples=$1
    printf RIFF; little_endian 4 $((36 + samples)); printf 'WAVEfmt '
    little_endian 4 16; little_endian 2 1; little_endian 2 1
    little_endian 4 "$SAMPLE_RATE"; little_endian 4 "$SAMPLE_RATE"; little_endian 2 1; little_endian 2 8
    printf data; little_endian 4 "$samples"
    head -c "$samples" /dev/zero | tr '\0' '\200'
}

case "$method $path" in
    "GET /health")
        answer '200 OK' '{"status": "healthy"}'
        ;;
    "GET /v1/voices")
        answer '200 OK' "{\"voices\": [\"$(echo "$VOICES" | sed 's/ /", "/g')\"]}"
        ;;
    "POST /v1/audio/speech")
        input=$(text input)
        [ -n "$input" ] || answer '400 Bad Request' '{"error": "an input is needed"}'
        # 150 words a minute
        milliseconds=$(($(echo "$input" | wc -w) * 400))
        answer '200 OK' "{\"voice\": \"$(text voice)\", \"milliseconds\": $milliseconds, \"format\": \"wav\",
 \"audio\": \"$(wav $((milliseconds * SAMPLE_RATE / 1000)) | base64 -w0)\"}"
        ;;
esac
