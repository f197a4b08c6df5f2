//! A service in the order of Compose's `ServiceConfig`.

use std::collections::BTreeMap;

use super::json::{self, Object, string};
use crate::model::{
    Attachment, Device, GpuRequest, Healthcheck, ImageSource, Mount, MountSource, Port, Service,
    Ulimit,
};

/// Without what Compose clears before it hashes: `build`, `depends_on`, `profiles`.
pub(super) fn json(service: &Service) -> String {
    let mut object = Object::default();
    object.strings("cap_add", &service.cap_add);
    object.strings("cap_drop", &service.cap_drop);
    object.raw("command", &command(service.command.as_deref()));
    object.text("container_name", service.container_name.as_ref());
    if service.has_deploy {
        object.raw("deploy", &deploy(service));
    }
    list(&mut object, "devices", &service.devices, device);
    object.raw("entrypoint", &command(service.entrypoint.as_deref()));
    environment(&mut object, service);
    object.strings("expose", &service.expose);
    object.strings("extra_hosts", &extra_hosts(&service.extra_hosts));
    object.strings("group_add", &service.group_add);
    list(&mut object, "gpus", &service.gpus, gpu_request);
    object.text("hostname", service.hostname.as_ref());
    if let Some(check) = &service.healthcheck {
        object.raw("healthcheck", &healthcheck(check));
    }
    if service.image_source != ImageSource::BuiltUnnamed {
        object.text("image", Some(&service.image));
    }
    object.maybe_flag("init", service.init);
    object.text("ipc", service.ipc.as_ref());
    object.map("labels", &service.labels);
    object.text("network_mode", service.network_mode.map(|mode| mode.as_str().to_owned()).as_ref());
    networks(&mut object, service);
    list(&mut object, "ports", &service.ports, port);
    object.text("restart", service.restart.map(|policy| policy.to_string()).as_ref());
    object.text("runtime", service.runtime.as_ref());
    object.strings("security_opt", &service.security_opt);
    object.bytes("shm_size", service.shm_size);
    object.flag("stdin_open", service.stdin_open);
    object.duration("stop_grace_period", service.stop_grace_period);
    object.text("stop_signal", service.stop_signal.as_ref());
    object.flag("tty", service.tty);
    ulimits(&mut object, service);
    object.text("user", service.user.as_ref());
    list(&mut object, "volumes", &service.mounts, mount);
    object.text("working_dir", service.working_dir.as_ref());
    object.finish()
}

fn list<T>(object: &mut Object, name: &str, items: &[T], write: fn(&T) -> String) {
    if !items.is_empty() {
        object.raw(name, &json::array(items.iter().map(write)));
    }
}

fn command(words: Option<&[String]>) -> String {
    words.map_or_else(|| "null".to_owned(), json::string_array)
}

fn deploy(service: &Service) -> String {
    let mut resources = Object::default();
    if let Some(requests) = &service.reservations {
        let mut reservations = Object::default();
        list(&mut reservations, "devices", requests, gpu_request);
        resources.raw("reservations", &reservations.finish());
    }
    let mut deploy = Object::default();
    deploy.raw("resources", &resources.finish());
    deploy.raw("placement", "{}");
    deploy.finish()
}

fn device(device: &Device) -> String {
    let mut object = Object::default();
    object.text("source", Some(&device.source));
    object.text("target", Some(&device.target));
    object.text("permissions", Some(&device.permissions));
    object.finish()
}

fn environment(object: &mut Object, service: &Service) {
    if service.environment.is_empty() {
        return;
    }
    let mut variables = Object::default();
    for (name, value) in service.environment.iter() {
        variables.raw(name, &value.map_or_else(|| "null".to_owned(), string));
    }
    object.raw("environment", &variables.finish());
}

fn extra_hosts(hosts: &BTreeMap<String, Vec<String>>) -> Vec<String> {
    let each = |(host, addresses): (&String, &Vec<String>)| {
        addresses.iter().map(|address| format!("{host}={address}")).collect::<Vec<_>>()
    };
    let mut lines: Vec<_> = hosts.iter().flat_map(each).collect();
    lines.sort();
    lines
}

fn gpu_request(request: &GpuRequest) -> String {
    let mut object = Object::default();
    object.strings("capabilities", &request.capabilities);
    object.text("driver", request.driver.as_ref());
    object.number("count", request.count.unwrap_or(0));
    object.strings("device_ids", &request.device_ids);
    object.map("options", &request.options);
    object.finish()
}

fn healthcheck(check: &Healthcheck) -> String {
    let mut object = Object::default();
    object.strings("test", &check.test);
    object.duration("timeout", check.timeout);
    object.duration("interval", check.interval);
    if let Some(retries) = check.retries {
        object.raw("retries", &retries.to_string());
    }
    object.duration("start_period", check.start_period);
    object.duration("start_interval", check.start_interval);
    object.flag("disable", check.disabled);
    object.finish()
}

fn networks(object: &mut Object, service: &Service) {
    if service.networks.is_empty() {
        return;
    }
    let mut networks = Object::default();
    for (key, attachment) in &service.networks {
        networks.raw(key, &self::attachment(attachment));
    }
    object.raw("networks", &networks.finish());
}

fn attachment(attachment: &Attachment) -> String {
    if !attachment.is_explicit {
        return "null".to_owned();
    }
    let mut object = Object::default();
    object.strings("aliases", &attachment.aliases);
    object.number("priority", attachment.priority);
    object.finish()
}

fn port(port: &Port) -> String {
    let mut object = Object::default();
    object.raw("mode", "\"ingress\"");
    object.text("host_ip", port.host_ip.as_ref());
    object.number("target", port.target.into());
    object.text("published", port.published.as_ref());
    object.raw("protocol", &string(port.protocol.as_str()));
    object.finish()
}

fn ulimits(object: &mut Object, service: &Service) {
    if service.ulimits.is_empty() {
        return;
    }
    let mut limits = Object::default();
    for (name, limit) in &service.ulimits {
        limits.raw(name, &ulimit(limit));
    }
    object.raw("ulimits", &limits.finish());
}

fn ulimit(limit: &Ulimit) -> String {
    if limit.single && limit.soft != 0 {
        return limit.soft.to_string();
    }
    let mut object = Object::default();
    object.number("soft", limit.soft);
    object.number("hard", limit.hard);
    object.finish()
}

fn mount(mount: &Mount) -> String {
    let mut object = Object::default();
    let (kind, source) = match &mount.source {
        MountSource::Bind { path, .. } => ("bind", Some(path)),
        MountSource::Volume { key } => ("volume", Some(key)),
        MountSource::Anonymous => ("volume", None),
        MountSource::Tmpfs { .. } => ("tmpfs", None),
    };
    object.raw("type", &string(kind));
    object.text("source", source);
    object.text("target", Some(&mount.target));
    object.flag("read_only", mount.read_only);
    if kind == "bind" || mount.selinux.is_some() || mount.propagation.is_some() {
        object.raw("bind", &bind(mount));
    }
    // Compose's shortcut for specs of one or two characters leaves the empty object out.
    let shortcut = mount.source == MountSource::Anonymous && mount.target.len() <= 2;
    if (kind == "volume" && !shortcut) || mount.no_copy {
        let mut volume = Object::default();
        volume.flag("nocopy", mount.no_copy);
        object.raw("volume", &volume.finish());
    }
    if let MountSource::Tmpfs { size, mode } = mount.source {
        let mut tmpfs = Object::default();
        tmpfs.bytes("size", size);
        tmpfs.number("mode", mode.unwrap_or(0).into());
        object.raw("tmpfs", &tmpfs.finish());
    }
    object.finish()
}

fn bind(mount: &Mount) -> String {
    let mut object = Object::default();
    object.text("selinux", mount.selinux.map(|selinux| selinux.as_str().to_owned()).as_ref());
    let propagation = mount.propagation.map(|propagation| propagation.as_str().to_owned());
    object.text("propagation", propagation.as_ref());
    let create = matches!(mount.source, MountSource::Bind { create_host_path: true, .. });
    object.flag("create_host_path", create);
    object.finish()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::model::{Dependency, Protocol, RestartPolicy, Selinux};

    #[test]
    fn a_bare_service_shows_its_command_and_entrypoint() {
        let mut service = Service::new("web", "nginx");
        assert_eq!(json(&service), r#"{"command":null,"entrypoint":null,"image":"nginx"}"#);
        service.command = Some(Vec::new());
        service.image_source = ImageSource::BuiltUnnamed;
        assert_eq!(json(&service), r#"{"command":[],"entrypoint":null}"#);
    }

    #[test]
    fn what_compose_clears_does_not_count() {
        let plain = Service::new("web", "nginx");
        let mut other = plain.clone();
        other.name = "front".to_owned();
        other.profiles = vec!["gpu".to_owned()];
        let plain_one = Dependency { condition: Default::default(), restart: true, required: true };
        other.depends_on.insert("db".to_owned(), plain_one);
        assert_eq!(json(&plain), json(&other));
    }

    #[test]
    fn fields_come_in_the_order_of_composes_struct() {
        let mut service = Service::new("llm", "vllm");
        service.cap_add = vec!["SYS_PTRACE".to_owned()];
        service.has_deploy = true;
        service.reservations = Some(vec![GpuRequest::of_count(-1)]);
        service.environment.insert("B", None);
        service.environment.insert("A", Some("<1>".to_owned()));
        service
            .extra_hosts
            .insert("h".to_owned(), vec!["2.2.2.2".to_owned(), "1.1.1.1".to_owned()]);
        service.healthcheck = Some(Healthcheck {
            test: vec!["NONE".to_owned()],
            interval: Some(Duration::from_secs(90)),
            retries: Some(0),
            ..Healthcheck::default()
        });
        service.init = Some(false);
        service.restart = Some(RestartPolicy::OnFailure { max: Some(3) });
        service.shm_size = Some(1024);
        service.ulimits.insert("nofile".to_owned(), Ulimit { soft: 1, hard: 2, single: false });
        assert_eq!(
            json(&service),
            concat!(
                r#"{"cap_add":["SYS_PTRACE"],"command":null,"#,
                r#""deploy":{"resources":{"reservations":{"devices":[{"count":-1}]}},"placement":{}},"#,
                r#""entrypoint":null,"environment":{"A":"\u003c1\u003e","B":null},"#,
                r#""extra_hosts":["h=1.1.1.1","h=2.2.2.2"],"#,
                r#""healthcheck":{"test":["NONE"],"interval":"1m30s","retries":0},"#,
                r#""image":"vllm","init":false,"restart":"on-failure:3","shm_size":"1024","#,
                r#""ulimits":{"nofile":{"soft":1,"hard":2}}}"#,
            )
        );
    }

    #[test]
    fn networks_ports_and_mounts_have_their_own_orders() {
        let mut service = Service::new("web", "nginx");
        service.networks.insert("b".to_owned(), Attachment::default());
        service.networks.insert(
            "a".to_owned(),
            Attachment { is_explicit: true, priority: 5, ..Attachment::default() },
        );
        let published = Some("80-81".to_owned());
        let protocol = Protocol::Udp;
        service.ports =
            vec![Port { host_ip: Some("::1".to_owned()), published, target: 8, protocol }];
        let bind = MountSource::Bind { path: "/h".to_owned(), create_host_path: true };
        service.mounts = vec![
            Mount { selinux: Some(Selinux::Shared), read_only: true, ..Mount::new(bind, "/c") },
            Mount::new(MountSource::Anonymous, "/anon"),
            Mount::new(MountSource::Anonymous, "/a"),
            Mount {
                no_copy: true,
                ..Mount::new(MountSource::Volume { key: "v".to_owned() }, "/v")
            },
        ];
        assert_eq!(
            json(&service),
            concat!(
                r#"{"command":null,"entrypoint":null,"image":"nginx","#,
                r#""networks":{"a":{"priority":5},"b":null},"#,
                r#""ports":[{"mode":"ingress","host_ip":"::1","target":8,"published":"80-81","protocol":"udp"}],"#,
                r#""volumes":[{"type":"bind","source":"/h","target":"/c","read_only":true,"#,
                r#""bind":{"selinux":"z","create_host_path":true}},"#,
                r#"{"type":"volume","target":"/anon","volume":{}},"#,
                r#"{"type":"volume","target":"/a"},"#,
                r#"{"type":"volume","source":"v","target":"/v","volume":{"nocopy":true}}]}"#,
            )
        );
    }
}
