//! The guard, around every route.

use nanny_server::Token;

use crate::api::{Api, edge, request};

#[tokio::test(start_paused = true)]
async fn g1_g3_strangers_reach_no_route() {
    let api = Api::new().await;
    for target in ["/services/web/start", "/rediscover", "/nope"] {
        let rebound = axum::http::Request::post(target).header("host", "evil.test:8080");
        let problem = api.send(rebound, "").await.problem(403, "forbidden_host");
        assert!(problem["detail"].as_str().unwrap().contains("evil.test:8080"));
        let forged = request("POST", target).header("origin", "http://evil.test");
        api.send(forged, "").await.problem(403, "forbidden_origin");
        let forged = request("POST", target).header("sec-fetch-site", "cross-site");
        api.send(forged, "").await.problem(403, "forbidden_origin");
        let nameless = axum::http::Request::post(target);
        api.send(nameless, "").await.problem(400, "invalid_request");
    }
    assert!(api.engine.running().is_empty());
}

#[tokio::test(start_paused = true)]
async fn g6_a_token_is_asked_for_everywhere() {
    let token = Token::new("canary-token").expect("a token");
    let api = Api::with_edge(edge().with_token(token)).await;
    for target in ["/", "/health", "/services", "/nope"] {
        let answer = api.get(target).await;
        answer.problem(401, "unauthorized");
        assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
        let wrong = request("GET", target).header("authorization", "Bearer canary-tokem");
        assert!(!api.send(wrong, "").await.text.contains("canary"));
    }
    let right = request("GET", "/health").header("authorization", "Bearer canary-token");
    api.send(right, "").await.ok();
}

#[tokio::test(start_paused = true)]
async fn g6_g7_whatever_is_wrong_with_a_token_the_answer_is_the_same() {
    let token = "canary-token-0123456789";
    let api = Api::with_edge(edge().with_token(Token::new(token).expect("a token"))).await;
    let mut bodies = Vec::new();
    for headers in [
        vec![],
        vec![("authorization", String::new())],
        vec![("authorization", "Bearer".to_owned())],
        vec![("authorization", format!("Bearer {}", &token[1..]))],
        vec![("authorization", format!("Bearer {token}0"))],
        vec![("authorization", format!("Bearer {}", token.to_uppercase()))],
        vec![("authorization", format!("Bearer {}", "x".repeat(30_000)))],
        vec![("authorization", format!("Basic {token}"))],
        vec![("authorization", format!("Bearer\t{token}"))],
        vec![("authorization", format!("Bearer {token}, Bearer {token}"))],
        vec![
            ("authorization", format!("Bearer {token}")),
            ("authorization", format!("Bearer {token}")),
        ],
        vec![("cookie", format!("token={token}")), ("x-api-key", token.to_owned())],
        vec![("proxy-authorization", format!("Bearer {token}"))],
    ] {
        // Not so many a second that it is told to wait.
        tokio::time::advance(std::time::Duration::from_secs(1)).await;
        let mut wrong = request("POST", "/services/web/start");
        for (name, value) in headers {
            wrong = wrong.header(name, value);
        }
        let answer = api.send(wrong, "").await;
        answer.problem(401, "unauthorized");
        bodies.push(answer.text);
    }
    bodies.dedup();
    assert_eq!(bodies.len(), 1, "{bodies:#?}");
    assert!(!bodies[0].contains("canary"));
    for query in ["token", "access_token", "authorization"] {
        tokio::time::advance(std::time::Duration::from_secs(1)).await;
        let asked = api.post(&format!("/services/web/start?{query}={token}"), "").await;
        asked.problem(401, "unauthorized");
        assert!(!asked.text.contains("canary"), "{asked:?}");
    }
    assert!(api.engine.running().is_empty());
    let right = request("GET", "/health").header("authorization", format!("bEARER {token}"));
    api.send(right, "").await.ok();
}

#[tokio::test(start_paused = true)]
async fn g8_who_guesses_is_told_to_wait_and_who_knows_is_not() {
    let api = Api::with_edge(edge().with_token(Token::new("right").expect("a token"))).await;
    let guess =
        |text: &str| request("GET", "/health").header("authorization", format!("Bearer {text}"));
    for _ in 0..2 {
        for number in 0..30 {
            let answer = api.send(guess(&format!("wrong{number}")), "").await;
            if number < 10 {
                answer.problem(401, "unauthorized");
            } else {
                answer.problem(429, "too_many_requests");
                assert_eq!(answer.header("retry-after"), Some("1"));
            }
            api.send(guess("right"), "").await.ok();
        }
        tokio::time::advance(std::time::Duration::from_secs(1)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn i1_a_body_that_drips_is_cut_off() {
    let api = Api::new().await;
    let drips = futures_util::stream::unfold((), |()| async {
        tokio::time::sleep(std::time::Duration::from_secs(5)).await;
        Some((Ok::<_, std::convert::Infallible>(" "), ()))
    });
    let body = axum::body::Body::from_stream(drips);
    let answer = api.send(request("POST", "/services/web/start"), body).await;
    answer.problem(408, "request_timeout");
    assert!(api.engine.running().is_empty());
}
